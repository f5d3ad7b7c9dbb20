from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax import ops
from ranet_jax.ops import reference
from ranet_jax.ops.interaction import masked_softmax

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


def loss(*arguments):
    return jnp.sum(block(*arguments) ** 2)


block_of = jax.jit(block)
loss_and_gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def reference_block(features, score, labels, chosen):
    local = reference.collect(features, score, labels, chosen)
    context = reference.interact(local, score, chosen)
    return reference.distribute(features, score, labels, chosen, context)


@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case):
    features, score, labels, chosen, context = make(case)
    np.testing.assert_allclose(
        collect(features, score, labels, chosen),
        reference.collect(features, score, labels, chosen),
        atol=2e-6,
    )
    np.testing.assert_allclose(
        interact(context, score, chosen), reference.interact(context, score, chosen), atol=2e-6
    )
    np.testing.assert_allclose(
        distribute(features, score, labels, chosen, context),
        reference.distribute(features, score, labels, chosen, context),
        atol=2e-6,
    )


@pytest.mark.parametrize("case", ["three regions", "more regions than slots", "singletons"])
def test_gradients(case, check_gradients):
    features, score, labels, chosen, context = make(case)
    # The selection stays fixed, since it has no gradient.
    check_gradients(
        lambda a, j: ops.collect(a, j, labels, chosen),
        lambda a, j: reference.collect(a, j, labels, chosen),
        features,
        score,
    )
    check_gradients(
        lambda x, j: ops.interact(x, j, chosen),
        lambda x, j: reference.interact(x, j, chosen),
        context,
        score,
    )
    check_gradients(
        lambda a, j, x: ops.distribute(a, j, labels, chosen, x),
        lambda a, j, x: reference.distribute(a, j, labels, chosen, x),
        features,
        score,
        context,
    )


def test_collection_of_two_pixels_by_hand():
    features, score = jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([1.0, 0.5])
    labels = jnp.zeros(2, jnp.int32)
    chosen = select(score, labels, 1, 1)
    # The one other pixel has weight 1: (1, 2) + (1.5, 2.5).
    np.testing.assert_allclose(collect(features, score, labels, chosen), [[[2.5, 4.5]]])


def test_interaction_of_three_regions_by_hand():
    local = jnp.array([[[1.0]], [[2.0]], [[4.0]]])
    score, labels = jnp.array([1.0, 0.5, 0.25]), jnp.arange(3)
    chosen = select(score, labels, 3, 1)
    # One representative a region: every weight is 1, and the scored 1, 1 and 1 are summed.
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
    permuted = block_of(features[:, ::-1], score, labels, chosen)[:, ::-1]
    np.testing.assert_allclose(permuted, block_of(features, score, labels, chosen), atol=1e-6)


@pytest.mark.parametrize("case", ["three regions", "all pixels represent", "singletons"])
@pytest.mark.parametrize("scale", [0.0, 1e3])
def test_finite_under_extreme_features(case, scale):
    features, score, labels, chosen, _ = make(case)
    value, gradients = loss_and_gradients(scale * features, score, labels, chosen)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_finite_without_any_score():
    features, score, labels, chosen, _ = make("three regions")
    value, gradients = loss_and_gradients(features, 0 * score, labels, chosen)
    assert value == 0
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_one_pixel_is_its_own_region():
    features, score, labels = jnp.array([[2.0, 4.0]]), jnp.array([0.5]), jnp.array([0])
    chosen = select(score, labels, 2, 2)
    expected = reference_block(features, score, labels, chosen)
    # J A + J (J (J A)) = (0.5 + 0.125) A.
    np.testing.assert_allclose(expected, [[1.25, 2.5]])
    np.testing.assert_allclose(block_of(features, score, labels, chosen), expected)


def test_bfloat16_features_with_a_float32_score():
    features, score, labels, chosen, context = make("three regions")
    features, context = features.astype(jnp.bfloat16), context.astype(jnp.bfloat16)
    exact, exact_context = features.astype(jnp.float32), context.astype(jnp.float32)
    pairs = [
        (collect(features, score, labels, chosen), collect(exact, score, labels, chosen)),
        (interact(context, score, chosen), interact(exact_context, score, chosen)),
        (
            distribute(features, score, labels, chosen, context),
            distribute(exact, score, labels, chosen, exact_context),
        ),
    ]
    for half, full in pairs:
        assert half.dtype == jnp.bfloat16
        # Nothing but the result is rounded.
        np.testing.assert_array_equal(half, full.astype(jnp.bfloat16))
    gradient = jax.grad(lambda a: block_of(a, score, labels, chosen).astype(jnp.float32).sum())
    assert gradient(features).dtype == jnp.bfloat16


def test_jit_and_vmap_equal_eager():
    problems = [make("three regions", seed)[:4] for seed in (0, 1)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *problems)
    eager = np.stack([block(*problem) for problem in problems])
    np.testing.assert_allclose(jax.jit(jax.vmap(block))(*batch), eager, atol=1e-5)
    np.testing.assert_allclose(
        eager, np.stack([reference_block(*problem) for problem in problems]), atol=1e-5
    )


def test_masked_softmax_docstring_table(docstring_table):
    rows = np.array(docstring_table(masked_softmax, ["logits"]), float)
    weights = masked_softmax(jnp.asarray(rows[:, :3]), jnp.asarray(rows[:, 3:6], bool))
    np.testing.assert_allclose(weights, rows[:, 6:])


def test_masked_softmax_equals_the_softmax_of_what_is_left():
    logits, mask = jnp.array([3.0, -1.0, 80.0, 2.0]), jnp.array([True, True, False, True])
    kept = np.flatnonzero(mask)
    weights = masked_softmax(logits, mask)
    np.testing.assert_allclose(weights[kept], jax.nn.softmax(logits[kept]), rtol=1e-6)
    assert weights[2] == 0


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
