import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.ops import jensen_shannon, reference
from ranet_jax.testing import (
    check_dtypes,
    check_finite,
    check_gradients,
    check_jit,
    check_permutation,
    check_value,
    check_vmap,
    inputs,
)

divergence_of = jax.jit(jensen_shannon)


@pytest.mark.parametrize("implementation", [jensen_shannon, reference.jensen_shannon])
def test_docstring_table(implementation, docstring_table):
    rows = np.array(docstring_table(jensen_shannon, ["C", "E"]), float)
    probabilities, expected = rows[:, 1:3], rows[:, 4:]
    divergence = implementation(jnp.asarray(probabilities, jnp.float32))
    np.testing.assert_allclose(divergence, expected, atol=5e-3)


@pytest.mark.parametrize("sharpness", [0.1, 2.0, 10.0])
def test_equals_reference(sharpness):
    probabilities = inputs.distributions(0, (10,), 5, sharpness)
    check_value(divergence_of, reference.jensen_shannon, probabilities, rtol=1e-7)


def test_nearly_equal_distributions_keep_their_relative_precision():
    probabilities = np.array([[0.5, 0.5], [0.51, 0.49]], np.float32)
    expected = reference.jensen_shannon(probabilities)[0, 1]
    assert divergence_of(jnp.asarray(probabilities))[0, 1] == pytest.approx(expected, rel=2e-3)


def test_disjoint_categories_are_one_apart_and_equal_ones_nothing():
    divergence = divergence_of(jnp.eye(3)[jnp.array([0, 1, 2, 0])])
    expected = [[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]]
    np.testing.assert_allclose(divergence, expected, atol=1e-6)


def test_lies_in_the_unit_interval_and_is_symmetric():
    sharp = inputs.distributions(0, (10,), 5, sharpness=30.0)
    probabilities = np.concatenate([sharp, np.eye(5, dtype=np.float32)])
    divergence = np.asarray(divergence_of(jnp.asarray(probabilities)))
    assert divergence.min() >= 0
    assert divergence.max() <= 1
    np.testing.assert_array_equal(np.diag(divergence), 0)
    np.testing.assert_allclose(divergence, divergence.T, atol=1e-6)


def test_one_category_tells_nothing_apart():
    np.testing.assert_array_equal(divergence_of(jnp.ones((3, 1))), np.zeros((3, 3)))


def test_order_of_pixels_and_of_categories_does_not_matter():
    probabilities = inputs.distributions(0, (10,), 5)
    check_permutation(divergence_of, probabilities, out_axes=(0, 1))
    check_permutation(divergence_of, probabilities, in_axes=1, out_axes=None)


def test_categories_of_probability_zero_may_be_deleted():
    probabilities = inputs.distributions(0, (10,), 5)
    padded = np.pad(probabilities, ((0, 0), (0, 3)))
    expected = divergence_of(jnp.asarray(probabilities))
    np.testing.assert_allclose(divergence_of(jnp.asarray(padded)), expected, atol=1e-7)


def test_gradient():
    probabilities = inputs.distributions(0, (6,), 4)
    check_gradients(jensen_shannon, probabilities, reference=reference.jensen_shannon)


@pytest.mark.parametrize("tiny", [0.0, 1e-45, 1e-38, 1e-30, 1e-10])
def test_gradient_is_finite_where_categories_vanish(tiny):
    probabilities = jnp.array([[1.0, tiny, 0.0], [tiny, 1.0, 0.0], [0.5, 0.5, tiny]])
    assert divergence_of(probabilities).sum() == pytest.approx(2 * (1 + 2 * 0.311278), rel=1e-5)
    check_finite(divergence_of, probabilities, scales=[1.0])


def test_gradient_treats_an_absent_category_as_flat():
    # d E_01 / d p_0 = log2(2 p / (p + q)) / 2: log2(2) / 2 for p = 1, q = 0, and 0 for p = 0.
    gradient = jax.grad(lambda p: divergence_of(p)[0, 1])(jnp.eye(2))
    np.testing.assert_allclose(gradient, [[0.5, 0], [0, 0.5]], rtol=1e-6)


def test_gradient_vanishes_at_equal_distributions():
    gradient = jax.grad(lambda p: divergence_of(p).sum())(jnp.full((4, 3), 1 / 3))
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_jit_and_vmap_equal_eager():
    batch = inputs.distributions(0, (2, 10), 5)
    check_jit(jensen_shannon, batch[0], rtol=1e-7, atol=1e-7)
    check_vmap(jensen_shannon, batch, rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_keeps_the_dtype():
    probabilities = inputs.distributions(0, (4,), 3)
    check_dtypes(jensen_shannon, probabilities, dtypes=["bfloat16", "float64"])


def test_memory_does_not_grow_with_the_categories():
    def temporaries(c):
        gradient = jax.jit(jax.grad(lambda p: jnp.sum(jensen_shannon(p) ** 2)))
        compiled = gradient.lower(jnp.full((100, c), 1 / c)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # A table for each category would add 40 kB to 160 kB fifty-six times over.
    assert temporaries(60) - temporaries(4) < 200_000


def test_rejects_other_ranks(without_jaxtyping):
    with pytest.raises(ValueError, match=r"probabilities must have the axes \[n c\]"):
        jensen_shannon(jnp.ones(3))
