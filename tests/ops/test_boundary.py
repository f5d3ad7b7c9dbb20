import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.ops import reference, segment_max

SHAPES = [(1, 1), (1, 2), (2, 2), (1, 6), (6, 1), (4, 5), (5, 3)]
crossing_of = jax.jit(segment_max)


@pytest.mark.parametrize("implementation", [segment_max, reference.segment_max])
def test_docstring_table(implementation, docstring_table):
    boundary = jnp.array([[0.1, 0.2, 0.9, 0.3, 0.4]])
    expected = [[float(word) for word in row[1:]] for row in docstring_table(segment_max, ["D"])]
    np.testing.assert_allclose(implementation(boundary), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_reference(shape, rng):
    boundary = rng.uniform(size=shape).astype(np.float32)
    crossing = crossing_of(jnp.asarray(boundary))
    np.testing.assert_allclose(crossing, reference.segment_max(boundary), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 6), (4, 5)])
def test_is_exactly_symmetric_and_a_probability(shape, rng):
    crossing = np.asarray(crossing_of(jnp.asarray(rng.uniform(size=shape), jnp.float32)))
    np.testing.assert_array_equal(crossing, crossing.T)
    assert crossing.min() >= 0
    assert crossing.max() <= 1


def test_straight_segments_take_the_largest_pixel_between():
    boundary = jnp.array([[0.5], [0.3], [0.7], [0.2], [0.9]])
    crossing = crossing_of(boundary)
    assert crossing[0, 2] == np.float32(0.3)
    assert crossing[0, 4] == np.float32(0.7)
    assert crossing[4, 1] == np.float32(0.7)


def test_slanted_segment_interpolates_between_two_pixels():
    # From (0, 0) to (1, 2) the one sample is (0.5, 1); from (0, 0) to (1, 3) they are
    # (1/3, 1) and (2/3, 2).
    boundary = jnp.array([[9.0, 0.2, 0.1, 9.0], [9.0, 0.6, 0.4, 9.0]])
    crossing = crossing_of(boundary)
    assert crossing[0, 6] == pytest.approx(0.4)
    assert crossing[0, 7] == pytest.approx(
        max(2 / 3 * 0.2 + 1 / 3 * 0.6, 1 / 3 * 0.1 + 2 / 3 * 0.4)
    )


def test_slope_against_the_columns_interpolates_between_two_pixels():
    # From (0, 1) down to (3, 0): samples (1, 2/3) and (2, 1/3).
    boundary = jnp.array([[0.0, 0.0], [0.6, 0.3], [0.5, 0.1], [0.0, 0.0]])
    expected = max(1 / 3 * 0.6 + 2 / 3 * 0.3, 2 / 3 * 0.5 + 1 / 3 * 0.1)
    assert crossing_of(boundary)[1, 6] == pytest.approx(expected)


def test_wall_separates_its_sides():
    boundary = np.zeros((3, 7), np.float32)
    boundary[:, 3] = 0.9
    crossing = np.asarray(crossing_of(jnp.asarray(boundary)))
    column = np.arange(21) % 7
    left, right = column < 3, column > 3
    np.testing.assert_allclose(crossing[np.ix_(left, right)], 0.9, rtol=1e-6)
    np.testing.assert_array_equal(crossing[np.ix_(left, left)], 0)
    np.testing.assert_array_equal(crossing[np.ix_(right, right)], 0)


def test_gap_in_a_wall_lets_through():
    boundary = np.zeros((3, 7), np.float32)
    boundary[[0, 2], 3] = 0.9
    crossing = crossing_of(jnp.asarray(boundary))
    assert crossing[7 + 0, 7 + 6] == 0
    assert crossing[0, 6] == np.float32(0.9)
    # (0, 0) to (2, 6) passes the wall's column in the middle row.
    assert crossing[0, 20] == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_image_has_the_mirrored_table(axis, rng):
    boundary = rng.uniform(size=(4, 5)).astype(np.float32)
    order = np.flip(np.arange(20).reshape(4, 5), axis).ravel()
    mirrored = crossing_of(jnp.asarray(np.flip(boundary, axis).copy()))
    np.testing.assert_allclose(
        mirrored, crossing_of(jnp.asarray(boundary))[order][:, order], atol=1e-6
    )


@pytest.mark.parametrize("shape", [(4, 5), (1, 6)])
def test_gradient(shape, rng, check_gradients):
    check_gradients(segment_max, reference.segment_max, rng.uniform(size=shape))


@pytest.mark.parametrize("pair", [(0, 4), (4, 0)])
def test_gradient_of_ties_goes_to_the_first_from_the_lower_index(pair):
    boundary = jnp.array([[0.9, 0.1, 0.5, 0.5, 0.9]])
    gradient = jax.grad(lambda b: crossing_of(b)[pair])(boundary)
    np.testing.assert_array_equal(gradient, [[0, 0, 1, 0, 0]])


def test_gradient_is_shared_as_the_interpolation():
    gradient = jax.grad(lambda b: crossing_of(b)[1, 6])(jnp.ones((4, 2)).at[2].set(0.0))
    np.testing.assert_allclose(gradient, [[0, 0], [1 / 3, 2 / 3], [0, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2)])
def test_neighbours_have_neither_value_nor_gradient(shape):
    value, gradient = jax.value_and_grad(lambda b: crossing_of(b).sum())(jnp.ones(shape))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_constant_scores(level):
    boundary = jnp.full((4, 5), level)
    gradient = jax.grad(lambda b: crossing_of(b).sum())(boundary)
    y, x = np.divmod(np.arange(20), 5)
    span = np.maximum(np.abs(y[:, None] - y), np.abs(x[:, None] - x))
    np.testing.assert_array_equal(crossing_of(boundary), np.where(span > 1, level, 0))
    np.testing.assert_allclose(gradient.sum(), (span > 1).sum(), rtol=1e-6)


def test_jit_and_vmap_equal_eager(rng):
    boundaries = jnp.asarray(rng.uniform(size=(2, 4, 5)), jnp.float32)
    eager = np.stack([segment_max(boundary) for boundary in boundaries])
    np.testing.assert_allclose(jax.jit(jax.vmap(segment_max))(boundaries), eager, atol=1e-7)


def test_keeps_the_dtype():
    assert segment_max(jnp.ones((4, 5), jnp.bfloat16)).dtype == jnp.bfloat16


def test_rejects_other_ranks(without_jaxtyping):
    with pytest.raises(ValueError, match=r"boundary must have the axes \[h w\]"):
        segment_max(jnp.ones((2, 2, 2)))
