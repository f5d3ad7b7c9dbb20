import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.ops import reference, segment_max
from ranet_jax.testing import (
    check_dtypes,
    check_equivariance,
    check_gradients,
    check_jit,
    check_ties,
    check_value,
    check_vmap,
)

SHAPES = [(1, 1), (1, 2), (2, 2), (1, 6), (6, 1), (4, 5), (5, 3)]
crossing_of = jax.jit(segment_max)
inner_crossing_of = jax.jit(functools.partial(segment_max, end_points=False))


@pytest.mark.parametrize("implementation", [segment_max, reference.segment_max])
def test_docstring_table(implementation, docstring_table):
    boundary = jnp.array([[0.1, 0.2, 0.9, 0.3, 0.4]])
    expected = [[float(word) for word in row[1:]] for row in docstring_table(segment_max, ["D"])]
    np.testing.assert_allclose(implementation(boundary), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_reference(shape, rng):
    check_value(crossing_of, reference.segment_max, rng.uniform(size=shape), rtol=1e-7)


@pytest.mark.parametrize("shape", [(1, 6), (4, 5)])
def test_is_exactly_symmetric_and_a_probability(shape, rng):
    crossing = np.asarray(crossing_of(jnp.asarray(rng.uniform(size=shape), jnp.float32)))
    np.testing.assert_array_equal(crossing, crossing.T)
    assert crossing.min() >= 0
    assert crossing.max() <= 1


def test_straight_segments_take_the_largest_pixel():
    boundary = jnp.array([[0.5], [0.3], [0.7], [0.2], [0.9]])
    inner, crossing = inner_crossing_of(boundary), crossing_of(boundary)
    assert inner[0, 2] == np.float32(0.3)
    assert inner[0, 4] == np.float32(0.7)
    assert inner[4, 1] == np.float32(0.7)
    assert crossing[0, 1] == np.float32(0.5)
    assert crossing[3, 1] == np.float32(0.7)
    assert crossing[4, 1] == np.float32(0.9)


def test_slanted_segment_interpolates_between_two_pixels():
    # From (0, 0) to (1, 2) the one sample is (0.5, 1); from (0, 0) to (1, 3) they are
    # (1/3, 1) and (2/3, 2).
    boundary = jnp.array([[9.0, 0.2, 0.1, 9.0], [9.0, 0.6, 0.4, 9.0]])
    crossing = inner_crossing_of(boundary)
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


def test_pixels_of_a_wall_are_apart_from_their_neighbours_and_from_themselves():
    crossing = np.asarray(crossing_of(jnp.zeros((3, 7)).at[:, 3].set(0.9)))
    np.testing.assert_allclose(crossing[np.arange(21) % 7 == 3], 0.9, rtol=1e-6)


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
    order = np.flip(np.arange(20).reshape(4, 5), axis).ravel()
    check_equivariance(
        crossing_of,
        rng.uniform(size=(4, 5)),
        before=lambda boundary: (jnp.flip(boundary, axis),),
        after=lambda crossing: crossing[order][:, order],
        rtol=1e-7,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_end_points_only_add_to_the_inner_samples(shape, rng):
    boundary = jnp.asarray(rng.uniform(size=shape), jnp.float32)
    ends = np.maximum.outer(np.asarray(boundary).ravel(), np.asarray(boundary).ravel())
    np.testing.assert_array_equal(
        crossing_of(boundary), np.maximum(inner_crossing_of(boundary), ends)
    )


@pytest.mark.parametrize("shape", [(4, 5), (1, 6)])
def test_gradient(shape, rng):
    check_gradients(segment_max, rng.uniform(size=shape), reference=reference.segment_max)


@pytest.mark.parametrize("pair", [(0, 4), (4, 0)])
@pytest.mark.parametrize(
    ("scores", "gradient_expected"),
    [
        ([0.5, 0.1, 0.9, 0.9, 0.9], [0, 0, 1, 0, 0]),
        ([0.9, 0.1, 0.9, 0.9, 0.9], [1, 0, 0, 0, 0]),
        ([0.5, 0.1, 0.2, 0.2, 0.9], [0, 0, 0, 0, 1]),
    ],
)
def test_gradient_of_ties_goes_to_the_first_from_the_lower_index(pair, scores, gradient_expected):
    gradient = jax.grad(lambda b: crossing_of(b)[pair])(jnp.array([scores]))
    np.testing.assert_array_equal(gradient, [gradient_expected])


def test_gradient_is_shared_as_the_interpolation():
    boundary = jnp.ones((4, 2)).at[2].set(0.0)
    gradient = jax.grad(lambda b: inner_crossing_of(b)[1, 6])(boundary)
    np.testing.assert_allclose(gradient, [[0, 0], [1 / 3, 2 / 3], [0, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2)])
def test_neighbours_without_end_points_have_neither_value_nor_gradient(shape):
    value, gradient = jax.value_and_grad(lambda b: inner_crossing_of(b).sum())(jnp.ones(shape))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_constant_scores_teach_the_pixel_of_smaller_index(level):
    boundary = jnp.full((4, 5), level)
    gradient = jax.grad(lambda b: crossing_of(b).sum())(boundary)
    np.testing.assert_array_equal(crossing_of(boundary), np.full((20, 20), level))
    # Pixel i has the smaller index in 19 - i pairs, each twice in the table, and meets itself.
    np.testing.assert_allclose(gradient, (2 * np.arange(19, -1, -1) + 1).reshape(4, 5))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_constant_scores_without_end_points(level):
    boundary = jnp.full((4, 5), level)
    gradient = jax.grad(lambda b: inner_crossing_of(b).sum())(boundary)
    y, x = np.divmod(np.arange(20), 5)
    span = np.maximum(np.abs(y[:, None] - y), np.abs(x[:, None] - x))
    np.testing.assert_array_equal(inner_crossing_of(boundary), np.where(span > 1, level, 0))
    np.testing.assert_allclose(gradient.sum(), (span > 1).sum(), rtol=1e-6)


@pytest.mark.slow
def test_ties_go_to_the_pixel_of_smaller_index():
    check_ties(segment_max, jnp.full((3, 4), 0.5))


@pytest.mark.slow
def test_jit_and_vmap_equal_eager(rng):
    boundaries = rng.uniform(size=(2, 4, 5))
    check_jit(segment_max, boundaries[0], rtol=1e-7, atol=1e-7)
    check_vmap(segment_max, boundaries, rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_keeps_the_dtype(rng):
    check_dtypes(segment_max, rng.uniform(size=(3, 2)), dtypes=["bfloat16", "float64"])


def test_rejects_other_ranks(without_jaxtyping):
    with pytest.raises(ValueError, match=r"boundary must have the axes \[h w\]"):
        segment_max(jnp.ones((2, 2, 2)))
