import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import released_reference as reference
from ranet_jax.ops import released
from ranet_jax.testing import (
    check_finite,
    check_gradients,
    check_jit,
    check_masking,
    check_value,
    inputs,
)

select = jax.jit(released.select_released, static_argnums=2)
attend = jax.jit(released.attend)
divergence = jax.jit(released.binary_divergence)


def random_map(seed, n=12, regions=4):
    """Attention with F_ii = 1, and labels that are the smallest index of each region."""
    rng = np.random.default_rng(seed)
    attention = rng.uniform(0.01, 1, size=(n, n))
    np.fill_diagonal(attention, 1)
    group = rng.integers(regions, size=n)
    labels = np.array([int(np.flatnonzero(group == g)[0]) for g in group])
    return attention, labels


def chosen(total, labels, per_region):
    """The selection as a list of pixels, after checking how it is padded."""
    total, labels = np.asarray(total, np.float32), np.asarray(labels, np.int32)
    indices, valid = select(total, labels, per_region)
    count = int(valid.sum())
    np.testing.assert_array_equal(valid, np.arange(len(labels)) < count)
    np.testing.assert_array_equal(indices[count:], 0)
    return np.asarray(indices[:count]).tolist()


@pytest.mark.parametrize("sharpness", [0.1, 2.0, 30.0])
def test_divergence_equals_loops(sharpness):
    probabilities = inputs.distributions(0, (12,), 4, sharpness)
    check_value(divergence, reference.divergence, probabilities, rtol=1e-7)


def test_divergence_by_hand():
    # Pixel 0 looks at category 0, where the two give 0.75 and 0.25; pixel 1 looks at category 1,
    # where they give 0.25 and 0.5. Entropies in nats: H(1/4) = 0.5623351, H(1/2) = ln 2.
    probabilities = jnp.array([[0.75, 0.25, 0.0], [0.25, 0.5, 0.25]])
    result = divergence(probabilities)
    mixture = -(0.375 * np.log(0.375) + 0.625 * np.log(0.625))
    expected = [
        [0, np.log(2) - 0.5623351],
        [mixture - (np.log(2) + 0.5623351) / 2, 0],
    ]
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert abs(float(result[0, 1] - result[1, 0])) > 0.05


def test_divergence_of_certain_pixels_is_clipped():
    result = divergence(jnp.eye(2))
    p, q = 0.99, 0.001
    expected = reference.entropy((p + q) / 2) - (reference.entropy(p) + reference.entropy(q)) / 2
    np.testing.assert_allclose(result, [[0, expected], [expected, 0]], atol=1e-6)


def test_divergence_takes_the_first_of_tied_categories():
    probabilities = jnp.array([[0.4, 0.4, 0.2], [0.4, 0.1, 0.5]])
    result = divergence(probabilities)
    np.testing.assert_allclose(result[0, 1], 0, atol=1e-7)


def test_divergence_gradient_equals_finite_differences():
    probabilities = inputs.distributions(1, (5,), 4, sharpness=1.0)
    check_gradients(divergence, probabilities, reference=reference.divergence, atol=1e-4)


@pytest.mark.parametrize(
    "probabilities",
    [np.eye(3), np.tile([1.0, 0, 0], (3, 1)), np.zeros((3, 3)), np.full((3, 3), 1 / 3)],
)
def test_divergence_gradient_is_finite_for_degenerate_probabilities(probabilities):
    check_finite(divergence, probabilities.astype(np.float32), scales=[1.0])


def test_scores_equal_loops():
    attention, labels = random_map(3)
    total = released.region_total(
        jnp.asarray(attention, jnp.float32), jnp.asarray(labels, jnp.int32)
    )
    score = released.normalized_score(total, jnp.asarray(labels, jnp.int32))
    for result, expected in zip((total, score), reference.scores(attention, labels), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_score_counts_positive_totals_alone():
    labels = jnp.array([0, 0, 0, 3, 3])
    score = released.normalized_score(jnp.array([3.0, 0.0, 1.0, 0.0, 0.0]), labels)
    np.testing.assert_allclose(score, [1.5, 0, 0.5, 0, 0])


@pytest.mark.parametrize("per_region", [1, 3, 8, 40])
def test_selection_equals_loops(per_region):
    for seed in range(30):
        attention, labels = random_map(seed, n=20, regions=1 + seed % 7)
        total, _ = reference.scores(attention, labels)
        if seed % 2:  # ties, and pixels that score nothing
            total = np.random.default_rng(seed).integers(3, size=20).astype(float)
        expected = reference.representatives(total, labels, per_region)
        assert chosen(total, labels, per_region) == expected.tolist(), seed


def test_selection_of_the_docstring():
    indices, valid = released.select_released(
        jnp.array([1.2, 2.5, 1.9, 1.1, 1.0]), jnp.array([0, 0, 0, 0, 4]), 2
    )
    np.testing.assert_array_equal(indices, [0, 1, 2, 4, 0])
    np.testing.assert_array_equal(valid, [True, True, True, True, False])


def test_small_regions_pull_in_the_first_zeros():
    # Rows of 16 pixels, 8 picks each. Region 0 holds pixels 0 to 9 and gives its best eight,
    # 2 to 9. Region 10 holds 10 to 14: five picks, then the zeros 0, 1, 2. Region 15 holds one
    # pixel: its zeros are 0 to 6. Together: 0 to 15.
    labels = [0] * 10 + [10] * 5 + [15]
    total = [1.0, 2.0, 3, 4, 5, 6, 7, 8, 9, 9.5, 5, 4, 3, 2, 1, 1]
    assert chosen(total, labels, 8) == list(range(16))
    # Without the last pixel the zeros stop at 2, which is a representative anyway; pixels 0 and 1
    # are in although they rank last of their region.
    assert chosen(total[:15], labels[:15], 8) == list(range(15))
    # With 4 picks: 6 to 9; 10 to 13; then 15 and the zeros 0, 1, 2.
    assert chosen(total, labels, 4) == [0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 15]


def test_one_region_gives_its_best_and_nothing_else():
    total = np.array([1.0, 5, 3, 5, 2, 4])
    assert chosen(total, np.zeros(6, int), 3) == [1, 3, 5]


def test_singletons_give_every_pixel():
    assert chosen(np.ones(10), np.arange(10), 3) == list(range(10))


def test_ties_go_to_the_smaller_index():
    assert chosen(np.full(6, 2.0), np.zeros(6, int), 4) == [0, 1, 2, 3]


@pytest.mark.slow
def test_selection_jit_equals_eager():
    attention, labels = random_map(5)
    total = jnp.asarray(reference.scores(attention, labels)[0], jnp.float32)
    labels = jnp.asarray(labels, jnp.int32)
    check_jit(lambda *arguments: released.select_released(*arguments, 3), total, labels)


def test_selection_refuses_no_picks():
    with pytest.raises(ValueError, match="K = 0"):
        released.select_released(jnp.ones(3), jnp.zeros(3, jnp.int32), 0)


def attend_arguments(seed=0, q=4, k=6, m=5):
    rng = np.random.default_rng(seed)
    shapes = ((q, m), (k, m), (k,))
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def test_attend_equals_numpy():
    queries, features, score = (np.asarray(x, np.float64) for x in attend_arguments())
    expected = queries + reference.softmax(queries @ (features * score[:, None]).T) @ features
    result = attend(*attend_arguments(), jnp.ones(6, bool))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_attend_multiplies_in_true_single_precision():
    jaxpr = jax.make_jaxpr(released.attend)(*attend_arguments(), jnp.ones(6, bool))
    products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    highest = jax.lax.Precision.HIGHEST
    assert [e.params["precision"] for e in products] == [(highest, highest)] * 2


def test_attend_mask_equals_deleting():
    queries, features, score = attend_arguments()
    valid = jnp.array([True, False, True, True, False, False])
    check_masking(attend, queries, features, score, valid, in_axes=[None, 0, 0, 0])


@jax.jit
def attend_gradients(*arguments):
    """Gradients of the sum of the result with respect to the queries, features and scores."""
    return jax.grad(lambda *x: released.attend(*x).sum(), argnums=(0, 1, 2))(*arguments)


def test_attend_to_nothing_returns_the_queries():
    arguments = (*attend_arguments(), jnp.zeros(6, bool))
    np.testing.assert_array_equal(attend(*arguments), arguments[0])
    for gradient, expected in zip(attend_gradients(*arguments), (1, 0, 0), strict=True):
        np.testing.assert_array_equal(gradient, expected)


def test_attend_is_finite_for_large_logits():
    arguments = (*attend_arguments(), jnp.ones(6, bool))
    check_finite(attend, *arguments, argnums=[0], scales=[1e4])


def test_attend_keeps_half_precision_and_sums_in_single():
    queries, features, score = attend_arguments()
    half = [x.astype(jnp.bfloat16) for x in (queries, features)]
    result = attend(*half, score, jnp.ones(6, bool))
    assert result.dtype == jnp.bfloat16
    exact = attend(*(x.astype(jnp.float32) for x in half), score, jnp.ones(6, bool))
    np.testing.assert_allclose(result.astype(jnp.float32), exact, rtol=1e-2, atol=2e-2)
