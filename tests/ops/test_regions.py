import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax import ops
from ranet_jax.ops import reference
from ranet_jax.testing import check_gradients, check_jit, check_ties, check_value, check_vmap

regularize = jax.jit(ops.regularize, static_argnums=2)
partition = jax.jit(ops.partition)
score_of = jax.jit(ops.representative_score)
select = jax.jit(ops.select_representatives, static_argnums=(2, 3))


def uniform(rng, *shape):
    return jnp.asarray(rng.uniform(size=shape), jnp.float32)


def random_decision(rng, n, density):
    decision = rng.uniform(size=(n, n)) < density
    return jnp.asarray(decision | decision.T | np.eye(n, dtype=bool))


# Eq. 3


def test_attention_is_high_without_boundary_and_dissimilarity():
    crossing = jnp.array([[0.0, 1.0], [0.5, 0.0]])
    divergence = jnp.array([[0.0, 0.0], [0.5, 1.0]])
    np.testing.assert_array_equal(ops.region_attention(crossing, divergence), [[1, 0], [0.25, 0]])


def test_attention_gradient(rng):
    check_gradients(
        ops.region_attention,
        rng.uniform(size=(3, 3)),
        np.eye(3),
        reference=reference.region_attention,
    )


# Eq. 4, the kernel


@pytest.mark.parametrize("shape", [(1, 1), (3, 4)])
def test_identity_kernels_change_nothing(shape, rng):
    attention = uniform(rng, shape[0] * shape[1], shape[0] * shape[1])
    for size in (1, 3):
        kernel = jnp.zeros((size, size)).at[size // 2, size // 2].set(1.0)
        np.testing.assert_array_equal(regularize(attention, kernel, shape), attention)


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 4), 1), ((3, 4), 3), ((3, 4), 5), ((1, 5), 3), ((5, 1), 3)]
)
def test_regularize_equals_reference(shape, size, rng):
    attention = uniform(rng, shape[0] * shape[1], shape[0] * shape[1])
    kernel = jnp.asarray(rng.normal(size=(size, size)) / 2, jnp.float32)
    kernel = kernel.at[size // 2, size // 2].set(1.25)
    filtered = reference.regularize(attention, kernel, shape)
    assert filtered.max() == 1, "the case must reach the clip"
    check_value(
        lambda f, w: regularize(f, w, shape),
        lambda f, w: reference.regularize(f, w, shape),
        attention,
        kernel,
        rtol=1e-7,
    )


def test_kernel_looks_in_the_direction_of_its_entries():
    attention = jnp.zeros((6, 6)).at[0, 4].set(0.5)
    kernel = jnp.zeros((3, 3)).at[0, 1].set(1.0)
    # The entry above the middle reads the pixel above: 0.5 moves from pixel (1, 1) down, out of
    # a 2 x 3 grid; from (0, 1) it would move to (1, 1).
    np.testing.assert_array_equal(regularize(attention, kernel, (2, 3)), np.zeros((6, 6)))
    moved = regularize(jnp.zeros((6, 6)).at[0, 1].set(0.5), kernel, (2, 3))
    np.testing.assert_array_equal(moved, np.zeros((6, 6)) + np.eye(6)[[0]].T * np.eye(6)[4] / 2)


def test_regularize_gradient(rng):
    attention, kernel = rng.uniform(size=(6, 6)), rng.uniform(-0.4, 0.9, size=(3, 3))
    filtered = reference.regularize(attention, kernel, (2, 3))
    assert (filtered == 1).any(), "the case must reach the clip"
    check_gradients(
        lambda f, w: ops.regularize(f, w, (2, 3)),
        attention,
        kernel,
        reference=lambda f, w: reference.regularize(f, w, (2, 3)),
    )


@pytest.mark.parametrize(("value", "slope"), [(-0.25, 0), (0.0, 1), (0.5, 1), (1.0, 1), (1.25, 0)])
def test_clip_passes_the_gradient_on_the_closed_interval(value, slope):
    gradient = jax.grad(lambda f: regularize(f, jnp.ones((1, 1)), (1, 1)).sum())
    assert gradient(jnp.full((1, 1), value)) == slope


def test_attention_of_exactly_one_teaches_the_kernel():
    gradient = jax.grad(lambda w: regularize(jnp.eye(6), w, (2, 3)).sum())(jnp.ones((1, 1)))
    assert gradient == 6


def test_regularize_rejects_even_kernels_and_other_grids():
    with pytest.raises(ValueError, match="kernel must have an odd size, but is 2 x 2"):
        ops.regularize(jnp.ones((6, 6)), jnp.ones((2, 2)), (2, 3))
    with pytest.raises(ValueError, match="does not hold the 6 pixels"):
        ops.regularize(jnp.ones((6, 6)), jnp.ones((1, 1)), (2, 2))


# Eq. 4, the decision


@pytest.mark.parametrize("implementation", [ops.region_decision, reference.region_decision])
def test_decision_docstring_table(implementation, docstring_table):
    rows = np.array(docstring_table(ops.region_decision, ["F^g"]), float)
    attention, expected = jnp.asarray(rows[:, 1:4], jnp.float32), rows[:, 5:]
    np.testing.assert_array_equal(implementation(attention, 0.8), expected)


def test_decision_is_symmetric_and_equals_reference(rng):
    attention = uniform(rng, 12, 12)
    decision = np.asarray(ops.region_decision(attention, 0.5))
    np.testing.assert_array_equal(decision, decision.T)
    np.testing.assert_array_equal(decision, reference.region_decision(attention, 0.5))


def test_decision_must_exceed_the_threshold():
    assert not ops.region_decision(jnp.full((1, 1), 0.5), 0.5)
    assert ops.region_decision(jnp.full((1, 1), 0.5), 0.25)


def test_decision_has_no_gradient(rng):
    gradient = jax.grad(lambda f: ops.region_decision(f, 0.5).astype(jnp.float32).sum())
    np.testing.assert_array_equal(gradient(uniform(rng, 3, 3)), np.zeros((3, 3)))


# From decisions to regions


@pytest.mark.parametrize("implementation", [ops.partition, reference.partition])
def test_partition_docstring_table(implementation, docstring_table):
    rows = np.array(docstring_table(ops.partition, ["G"]), int)
    decision, follows, labels = rows[:, 1:6].astype(bool), rows[:, 6], rows[:, 7]
    np.testing.assert_array_equal(implementation(jnp.asarray(decision)), labels)
    np.testing.assert_array_equal(follows, [0, 1, 0, 2, 1])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 33])
def test_partition_follows_the_longest_chain(n):
    pixels = np.arange(n)
    chain = jnp.asarray(np.abs(pixels[:, None] - pixels) <= 1)
    np.testing.assert_array_equal(partition(chain), np.zeros(n))


@pytest.mark.parametrize("diagonal", [False, True])
def test_partition_of_nothing_and_of_everything(diagonal):
    alone = jnp.full((5, 5), False) | (jnp.eye(5, dtype=bool) & diagonal)
    np.testing.assert_array_equal(partition(alone), np.arange(5))
    np.testing.assert_array_equal(partition(jnp.full((5, 5), True)), np.zeros(5))


def test_partition_follows_only_the_smallest():
    # Pixel 2 goes with 0 and with 1, but joins 0 alone: 0 and 1 stay two regions.
    decision = jnp.array([[1, 0, 1], [0, 1, 1], [1, 1, 1]], bool)
    np.testing.assert_array_equal(partition(decision), [0, 1, 0])


def test_partition_equals_reference(rng):
    decisions = [random_decision(rng, 12, density) for density in (0.02, 0.05, 0.1, 0.3)]
    for decision in decisions:
        labels = np.asarray(partition(decision))
        np.testing.assert_array_equal(labels, reference.partition(decision))
        np.testing.assert_array_equal(labels[labels], labels)
    check_vmap(ops.partition, jnp.stack(decisions))


# Eq. 5


@pytest.mark.parametrize(
    "labels", [[0, 1, 0, 3, 1, 0], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5], [0, 0, 2, 2, 2, 5]]
)
def test_score_equals_reference(labels, rng):
    attention, labels = uniform(rng, 6, 6), jnp.array(labels)
    for operation in (score_of, ops.representative_score):
        check_value(
            operation, reference.representative_score, attention, labels, rtol=1e-6, atol=0.0
        )


def test_score_of_singletons_and_of_one_region(rng):
    attention = uniform(rng, 4, 4)
    np.testing.assert_array_equal(score_of(attention, jnp.arange(4)), np.diag(attention))
    whole = score_of(attention, jnp.zeros(4, jnp.int32))
    np.testing.assert_allclose(whole, np.asarray(attention).mean(axis=1), rtol=1e-6)


def test_score_knows_nothing_of_other_regions(rng):
    attention, labels = uniform(rng, 5, 5), jnp.array([0, 1, 0, 1, 0])
    kept = np.array([0, 2, 4])
    deleted = score_of(attention[kept][:, kept], labels[kept])
    np.testing.assert_allclose(score_of(attention, labels)[kept], deleted, rtol=1e-6)
    spoilt = jnp.where(labels[:, None] == labels[None, :], attention, jnp.nan)
    np.testing.assert_allclose(score_of(spoilt, labels)[kept], deleted, rtol=1e-6)


def test_score_gradient(rng):
    check_gradients(
        ops.representative_score,
        rng.uniform(size=(6, 6)),
        jnp.array([0, 1, 0, 3, 1, 0]),
        reference=reference.representative_score,
    )


# Representatives


@pytest.mark.parametrize(
    "implementation", [ops.select_representatives, reference.select_representatives]
)
def test_select_docstring_table(implementation, docstring_table):
    labels, scores, empty = docstring_table(ops.select_representatives, ["pixel"])
    score = jnp.array([float(word) for word in scores[1:6]])
    chosen = implementation(score, jnp.array([int(word) for word in labels[1:6]]), 3, 2)
    rows = np.array([labels[6:], scores[6:], empty], int)
    np.testing.assert_array_equal(chosen[0], rows[:, 0])
    np.testing.assert_array_equal(chosen[1], rows[:, 1:3])
    np.testing.assert_array_equal(chosen[2], rows[:, 3:])


def assert_same_selection(chosen, expected):
    for one, other in zip(chosen, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("num_regions", "per_region"),
    [(4, 3), (2, 1), (1, 20), (20, 20)],
    ids=["slots left over", "more regions than slots", "one slot", "Q and K beyond n"],
)
@pytest.mark.parametrize("scores", ["distinct", "tied"])
def test_selection_equals_reference(num_regions, per_region, scores, rng):
    for regions in (1, 3, 12):
        labels = partition(random_decision(rng, 12, 0.5 / regions))
        score = uniform(rng, 12) if scores == "distinct" else jnp.full(12, 0.5)
        check_value(
            lambda *arguments: select(*arguments, num_regions, per_region),
            lambda *arguments: reference.select_representatives(
                *arguments, num_regions, per_region
            ),
            score,
            labels,
        )


def test_larger_regions_come_first_and_ties_by_their_root():
    labels = jnp.array([0, 1, 1, 3, 3, 5])
    assert select(jnp.ones(6), labels, 4, 1).roots.tolist() == [1, 3, 0, 5]


def test_ties_go_to_the_smaller_index():
    labels = jnp.array([0, 1, 1, 3, 3, 1])
    check_ties(lambda score: select(score, labels, 4, 2), jnp.full(6, 0.5))


@pytest.mark.parametrize(("excess", "first"), [(2.0**-19, 1), (2.0**-15, 3)])
def test_rounding_noise_breaks_no_ties(excess, first):
    score = jnp.full(4, 0.25).at[0].set(0.1).at[3].add(excess)
    assert select(score, jnp.zeros(4, jnp.int32), 1, 1).indices[0, 0] == first


def test_scores_of_zero_are_valid():
    chosen = select(jnp.zeros(3), jnp.array([0, 0, 2]), 2, 2)
    np.testing.assert_array_equal(chosen.indices, [[0, 1], [2, 0]])
    np.testing.assert_array_equal(chosen.valid, [[True, True], [True, False]])


def test_selection_of_a_single_pixel():
    chosen = select(jnp.ones(1), jnp.zeros(1, jnp.int32), 2, 2)
    assert_same_selection(chosen, ([0, -1], [[0, 0], [0, 0]], [[True, False], [False, False]]))


def test_selection_under_vmap_equals_eager(rng):
    score, labels = uniform(rng, 2, 12), jnp.array([[0] * 12, [0, 1] * 6])
    operation = functools.partial(ops.select_representatives, num_regions=4, per_region=3)
    check_jit(operation, score[0], labels[0])
    check_vmap(operation, score, labels)
    assert [x.dtype for x in operation(score[0], labels[0])] == [jnp.int32, jnp.int32, jnp.bool_]


@pytest.mark.parametrize(("num_regions", "per_region"), [(0, 1), (1, 0)])
def test_selection_rejects_no_slots(num_regions, per_region):
    with pytest.raises(ValueError, match="must be positive"):
        ops.select_representatives(jnp.ones(2), jnp.zeros(2, jnp.int32), num_regions, per_region)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ops.region_attention(jnp.ones((2, 2)), jnp.ones((3, 3))), "divergence"),
        (lambda: ops.regularize(jnp.ones((2, 2)), jnp.ones((1, 3)), (1, 2)), "kernel"),
        (lambda: ops.region_decision(jnp.ones((2, 3)), 0.8), "attention"),
        (lambda: ops.partition(jnp.ones((2, 3), bool)), "decision"),
        (lambda: ops.representative_score(jnp.ones((2, 2)), jnp.zeros(3, jnp.int32)), "labels"),
        (lambda: ops.select_representatives(jnp.ones(2), jnp.zeros(3, jnp.int32), 1, 1), "labels"),
    ],
)
def test_rejects_shapes_that_do_not_fit(call, sentence, without_jaxtyping):
    with pytest.raises(ValueError, match=f"{sentence} .* must be"):
        call()
