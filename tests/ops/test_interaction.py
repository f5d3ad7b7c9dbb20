import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax import ops
from ranet_jax.ops import reference
from ranet_jax.ops.interaction import masked_softmax
from ranet_jax.testing import (
    check_dtypes,
    check_finite,
    check_gradients,
    check_jit,
    check_masking,
    check_permutation,
    check_value,
    check_vmap,
)

collect, interact, distribute = map(jax.jit, (ops.collect, ops.interact, ops.distribute))
select = jax.jit(ops.select_representatives, static_argnums=(2, 3))


class Problem(NamedTuple):
    """Eight pixels of three channels and their regions."""

    features: jax.Array
    score: jax.Array
    labels: jax.Array
    chosen: ops.Representatives
    context: jax.Array


CASES = {
    "three regions": ([0, 1, 0, 0, 1, 5, 1, 0], 3, 2),
    "slots left over": ([0, 1, 0, 0, 1, 5, 1, 0], 5, 2),
    "more regions than slots": ([0, 1, 0, 0, 1, 5, 1, 0], 2, 2),
    "all pixels represent": ([0, 1, 0, 0, 1, 5, 1, 0], 3, 9),
    "one region": ([0] * 8, 3, 2),
    "singletons": (list(range(8)), 8, 2),
    "one slot": ([0, 1, 0, 0, 1, 5, 1, 0], 1, 1),
}


def make(case, seed=0, n=8):
    rng = np.random.default_rng(seed)
    labels, num_regions, per_region = CASES[case]
    labels = jnp.array(labels[:n])
    features = jnp.asarray(rng.normal(size=(n, 3)), jnp.float32)
    score = jnp.asarray(rng.uniform(0.2, 1, size=n), jnp.float32)
    chosen = select(score, labels, num_regions, per_region)
    context = jnp.asarray(rng.normal(size=(num_regions, per_region, 3)), jnp.float32)
    return Problem(features, score, labels, chosen, context)


def block(features, score, labels, chosen):
    local = ops.collect(features, score, labels, chosen)
    return ops.distribute(features, score, labels, chosen, ops.interact(local, score, chosen))


block_of = jax.jit(block)


def reference_block(features, score, labels, chosen):
    local = reference.collect(features, score, labels, chosen)
    context = reference.interact(local, score, chosen)
    return reference.distribute(features, score, labels, chosen, context)


def equations_6_to_8(implementation, features, score, labels, chosen, context):
    return (
        implementation.collect(features, score, labels, chosen),
        implementation.interact(context, score, chosen),
        implementation.distribute(features, score, labels, chosen, context),
    )


each_step = jax.jit(functools.partial(equations_6_to_8, ops))
each_reference = functools.partial(equations_6_to_8, reference)


@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case):
    check_value(each_step, each_reference, *make(case), rtol=1e-7, atol=2e-6)


# Sizes of regions with 300 pixels in all, which are in blocks of 64 as there are four slots.
SIZES = {
    "around whole blocks": [64, 130, 65, 41],
    "representatives alone": [130, 64, 65, 3] + [2] * 19,
    "one region": [300],
    "no region has a slot": [100, 100, 100],
}


def make_large(sizes):
    """300 pixels of five channels in regions of these sizes, scattered over the image."""
    rng = np.random.default_rng(len(SIZES[sizes]))
    region = rng.permutation(np.repeat(np.arange(len(SIZES[sizes])), SIZES[sizes]))
    _, first, inverse = np.unique(region, return_index=True, return_inverse=True)
    labels = jnp.asarray(first[inverse], jnp.int32)
    features = jnp.asarray(rng.normal(size=(300, 5)), jnp.float32)
    score = jnp.asarray(rng.uniform(0.2, 1, size=300), jnp.float32)
    chosen = select(score, labels, 4, 3)
    if sizes == "no region has a slot":
        chosen = ops.Representatives(
            jnp.full(4, -1, jnp.int32), jnp.zeros((4, 3), jnp.int32), jnp.zeros((4, 3), bool)
        )
    context = jnp.asarray(rng.normal(size=(4, 3, 5)), jnp.float32)
    return Problem(features, score, labels, chosen, context)


def dense_softmax(logits, mask):
    powers = jnp.where(mask, jnp.exp(logits), 0)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / jnp.where(total > 0, total, 1)


def dense_collect(features, score, labels, chosen):
    """Eq. 6 over all pairs of a representative and a pixel."""
    roots, indices, valid = chosen
    pixels = jnp.arange(len(labels))
    represents = jnp.any((indices[..., None] == pixels) & valid[..., None], axis=(0, 1))
    sources = (roots[:, None] == labels) & ~represents
    scored = score[:, None] * features
    weights = dense_softmax(features[indices] @ scored.T, sources[:, None, :])
    return valid[..., None] * (scored[indices] + weights @ scored)


def dense_distribute(features, score, labels, chosen, context):
    """Eq. 8 over all pairs of a pixel and a representative."""
    roots, indices, valid = chosen
    sources = (labels[:, None] == jnp.repeat(roots, 3)) & valid.ravel()
    scored = (score[indices][..., None] * context).reshape(-1, 5)
    return score[:, None] * features + dense_softmax(features @ scored.T, sources) @ scored


def gradients_with(collect, distribute):
    """Gradients of weighted sums of Eqs. 6 and 8, by features, score and context."""

    def loss(features, score, context, labels, chosen):
        local = collect(features, score, labels, chosen)
        out = distribute(features, score, labels, chosen, context)
        return sum(jnp.sum(jnp.cos(jnp.arange(x.size)).reshape(x.shape) * x) for x in (local, out))

    def gradients(problem):
        features, score, labels, chosen, context = problem
        arguments = (features, score, context, labels, chosen)
        return jax.grad(loss, argnums=(0, 1, 2))(*arguments)

    return jax.jit(gradients)


gradients_of = gradients_with(ops.collect, ops.distribute)
dense_gradients_of = gradients_with(dense_collect, dense_distribute)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_regions_of_several_blocks(sizes):
    problem = make_large(sizes)
    check_value(each_step, each_reference, *problem, rtol=1e-7, atol=1e-5)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = dense_gradients_of(problem)
    for found, wanted in zip(gradients_of(problem), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9])
def test_large_logits_in_several_blocks(scale):
    problem = make_large("representatives alone")
    problem = problem._replace(features=scale * problem.features)
    check_value(each_step, each_reference, *problem, rtol=1e-7, atol=1e-5 * scale)
    assert all(np.isfinite(gradient).all() for gradient in gradients_of(problem))


@pytest.mark.slow
def test_batch_equals_its_images():
    problems = [make_large(sizes) for sizes in SIZES]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *problems)
    check_vmap(each_step, *batch, atol=1e-5)
    check_vmap(gradients_of, batch, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["three regions", "more regions than slots", "singletons"])
def test_gradients(case):
    features, score, labels, chosen, context = make(case)
    # The selection is given, since it has no gradient.
    of_pixels = (features, score, labels, chosen)
    check_gradients(ops.collect, *of_pixels, reference=reference.collect)
    check_gradients(ops.interact, context, score, chosen, reference=reference.interact)
    check_gradients(ops.distribute, *of_pixels, context, reference=reference.distribute)


def test_collection_of_two_pixels_by_hand():
    features, score = jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([1.0, 0.5])
    labels = jnp.zeros(2, jnp.int32)
    chosen = select(score, labels, 1, 1)
    # The only other pixel has weight 1: (1, 2) + (1.5, 2.5).
    np.testing.assert_allclose(collect(features, score, labels, chosen), [[[2.5, 4.5]]])


def test_interaction_of_three_regions_by_hand():
    local = jnp.array([[[1.0]], [[2.0]], [[4.0]]])
    score, labels = jnp.array([1.0, 0.5, 0.25]), jnp.arange(3)
    chosen = select(score, labels, 3, 1)
    # One representative per region: every weight is 1, and the scored 1, 1 and 1 are summed.
    np.testing.assert_allclose(interact(local, score, chosen), [[[3]], [[3]], [[3]]])


def test_distribution_by_hand():
    features, score = jnp.array([[0.0], [np.log(3.0)]]), jnp.array([1.0, 1.0])
    labels = jnp.zeros(2, jnp.int32)
    chosen = select(score, labels, 1, 2)
    context = jnp.array([[[0.0], [1.0]]])
    # Pixel 0 weighs 0 and 1 equally; pixel 1 weighs them 1 : 3.
    np.testing.assert_allclose(
        distribute(features, score, labels, chosen, context),
        [[0.5], [np.log(3) + 0.75]],
        rtol=1e-6,
    )


def test_regions_without_a_slot_keep_their_scored_features():
    problem = make("more regions than slots")
    out = distribute(*problem)
    np.testing.assert_array_equal(out[5], problem.score[5] * problem.features[5])


def test_empty_places_hold_nothing_and_give_nothing():
    features, score, labels, chosen, context = make("slots left over")
    empty = ~np.asarray(chosen.valid)
    assert empty.any()
    spoilt = jnp.where(chosen.valid[..., None], context, 1e6)
    np.testing.assert_array_equal(collect(features, score, labels, chosen)[empty], 0)
    np.testing.assert_array_equal(interact(spoilt, score, chosen)[empty], 0)
    np.testing.assert_array_equal(interact(spoilt, score, chosen), interact(context, score, chosen))
    np.testing.assert_array_equal(
        distribute(features, score, labels, chosen, spoilt),
        distribute(features, score, labels, chosen, context),
    )


def test_masked_slots_equal_deleted_ones():
    few, many = make("three regions"), make("slots left over")
    np.testing.assert_allclose(block_of(*few[:4]), block_of(*many[:4]), atol=1e-6)


def test_other_regions_may_be_deleted_from_collection():
    features, score, labels, chosen, _ = make("three regions")
    kept = np.flatnonzero(np.asarray(labels) == 0)
    fewer = jnp.zeros(len(kept), jnp.int32)
    alone = select(score[kept], fewer, 1, 2)
    np.testing.assert_allclose(
        collect(features[kept], score[kept], fewer, alone)[0],
        collect(features, score, labels, chosen)[0],
        atol=1e-6,
    )


def test_order_of_the_channels_does_not_matter():
    features, score, labels, chosen, _ = make("three regions")
    check_permutation(
        block_of, features, score, labels, chosen, in_axes=[1, None, None, None], out_axes=1
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", ["three regions", "all pixels represent", "singletons"])
def test_finite_under_extreme_features(case):
    arguments = make(case)[:4]
    check_finite(block_of, *arguments, argnums=[0], scales=[0.0, 1e3])


def test_finite_without_any_score():
    features, score, labels, chosen, _ = make("three regions")
    np.testing.assert_array_equal(block_of(features, 0 * score, labels, chosen), 0)
    check_finite(block_of, features, score, labels, chosen, argnums=[1], scales=[0.0])


def test_one_pixel_is_its_own_region():
    features, score, labels = jnp.array([[2.0, 4.0]]), jnp.array([0.5]), jnp.array([0])
    chosen = select(score, labels, 2, 2)
    expected = reference_block(features, score, labels, chosen)
    # J A + J (J (J A)) = (0.5 + 0.125) A.
    np.testing.assert_allclose(expected, [[1.25, 2.5]])
    np.testing.assert_allclose(block_of(features, score, labels, chosen), expected)


@pytest.mark.slow
def test_bfloat16_features_with_a_float32_score():
    # Nothing but the result is rounded.
    exactly = {"dtypes": ["bfloat16"], "rtol": 0.0, "atol": 0.0}
    problem = make("three regions")
    check_dtypes(each_step, *problem, argnums=[0, 4], **exactly)


@pytest.mark.slow
def test_jit_equals_eager():
    problem = make("three regions")[:4]
    check_jit(block, *problem, rtol=1e-7, atol=1e-5)
    check_value(block, reference_block, *problem, rtol=1e-7, atol=1e-5)


def test_masked_softmax_docstring_table(docstring_table):
    rows = np.array(docstring_table(masked_softmax, ["logits"]), float)
    weights = masked_softmax(jnp.asarray(rows[:, :3]), jnp.asarray(rows[:, 3:6], bool))
    np.testing.assert_allclose(weights, rows[:, 6:])


@pytest.mark.slow
def test_masked_softmax_equals_the_softmax_of_what_is_left():
    logits, mask = jnp.array([3.0, -1.0, 80.0, 2.0]), jnp.array([True, True, False, True])
    kept = np.flatnonzero(mask)
    weights = masked_softmax(logits, mask)
    np.testing.assert_allclose(weights[kept], jax.nn.softmax(logits[kept]), rtol=1e-6)
    assert weights[2] == 0
    check_masking(masked_softmax, logits, mask, out_axes=0)


@pytest.mark.slow
@pytest.mark.parametrize("logits", [[1e4, -1e4], [-1e30, -1e30], [0.0, 0.0]])
@pytest.mark.parametrize("mask", [[True, True], [False, True], [False, False]])
def test_masked_softmax_has_finite_gradients(logits, mask):
    gradient = jax.jacobian(masked_softmax)(jnp.array(logits), jnp.array(mask))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, ~np.array(mask)], 0)


@pytest.mark.parametrize(
    ("function", "spoilt", "name"),
    [
        (ops.collect, {"score": jnp.ones(7)}, "score"),
        (ops.collect, {"features": jnp.ones(8)}, "features"),
        (ops.interact, {"local": jnp.ones((3, 1, 3))}, "indices"),
        (ops.distribute, {"labels": jnp.zeros(7, jnp.int32)}, "labels"),
        (ops.distribute, {"context": jnp.ones((3, 2, 4))}, "context"),
    ],
)
def test_rejects_shapes_that_do_not_fit(function, spoilt, name, without_jaxtyping):
    features, score, labels, chosen, context = make("three regions")
    arguments = {"score": score, "representatives": chosen}
    if function is ops.interact:
        arguments |= {"local": context}
    else:
        arguments |= {"features": features, "labels": labels}
    if function is ops.distribute:
        arguments |= {"context": context}
    with pytest.raises(ValueError, match=f"{name} .*(must be|must have)"):
        function(**arguments | spoilt)
