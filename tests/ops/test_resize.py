import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ranet_jax.ops import nearest_grid, nearest_indices, resize_bilinear
from ranet_jax.testing import check_dtypes, check_gradients, check_value, check_vmap

resize = jax.jit(resize_bilinear, static_argnums=1)


def oracle(x, shape):
    """Align-corners interpolation of [h w c], one output pixel at a time."""
    x = np.asarray(x, np.float64)
    (height, width, channels), (out_height, out_width) = x.shape, shape
    out = np.zeros((out_height, out_width, channels))
    for v, u in np.ndindex(out_height, out_width):
        y = v * (height - 1) / (out_height - 1) if out_height > 1 else 0.0
        z = u * (width - 1) / (out_width - 1) if out_width > 1 else 0.0
        y_0, z_0 = int(y), int(z)
        y_1, z_1 = min(y_0 + 1, height - 1), min(z_0 + 1, width - 1)
        f, g = y - y_0, z - z_0
        above = (1 - g) * x[y_0, z_0] + g * x[y_0, z_1]
        below = (1 - g) * x[y_1, z_0] + g * x[y_1, z_1]
        out[v, u] = (1 - f) * above + f * below
    return out


@pytest.mark.parametrize("shape", [(7, 9), (2, 3), (3, 8), (6, 5), (1, 1), (1, 7), (7, 1), (4, 1)])
def test_equals_the_oracle(shape, rng):
    x = rng.normal(size=(4, 5, 2))
    check_value(lambda x: resize(x, shape), lambda x: oracle(x, shape), x, rtol=1e-7, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 5), (4, 1), (1, 1)])
@pytest.mark.parametrize("shape", [(3, 4), (1, 3)])
def test_axes_of_one_pixel(size, shape, rng):
    x = rng.normal(size=(*size, 2))
    check_value(lambda x: resize(x, shape), lambda x: oracle(x, shape), x, rtol=1e-7, atol=2e-6)


@pytest.mark.parametrize("size", [(4, 5), (1, 3)])
@pytest.mark.parametrize("shape", [(7, 9), (8, 10), (4, 5), (2, 11), (3, 2), (1, 1)])
def test_edges_in_place_of_corners_are_pytorch_s_default(size, shape, rng):
    x = rng.normal(size=(*size, 2)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x.transpose(2, 0, 1)[None].copy()), shape, mode="bilinear"
    )
    found = resize_bilinear(jnp.asarray(x), shape, align_corners=False)
    np.testing.assert_allclose(found, expected[0].numpy().transpose(1, 2, 0), atol=2e-6)


def test_by_hand():
    x = jnp.array([0.0, 1.0, 4.0])[None, :, None]
    np.testing.assert_allclose(resize(x, (1, 5)).ravel(), [0, 0.5, 1, 2.5, 4], rtol=1e-6)
    np.testing.assert_allclose(resize(x, (1, 2)).ravel(), [0, 4], rtol=1e-6)
    edges = resize_bilinear(x, (1, 6), align_corners=False)
    np.testing.assert_allclose(edges.ravel(), [0, 0.25, 0.75, 1.75, 3.25, 4], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_same_size_is_the_identity(dtype, rng):
    x = jnp.asarray(rng.normal(size=(4, 5, 2)), dtype)
    np.testing.assert_array_equal(resize(x, (4, 5)), x)


def test_corners_stay_and_ramps_stay_straight():
    ramp = jnp.linspace(0.0, 1.0, 5)[None, :, None] + jnp.linspace(0.0, 2.0, 4)[:, None, None]
    out = resize(ramp, (13, 17))[..., 0]
    straight = np.linspace(0, 1, 17) + np.linspace(0, 2, 13)[:, None]
    np.testing.assert_allclose(out, straight, atol=1e-5)


def test_large_maps_keep_their_constant():
    np.testing.assert_allclose(resize(jnp.full((33, 65, 1), 7.0), (257, 513)), 7, rtol=1e-6)


@pytest.mark.parametrize("leading", [(3,), (2, 3)])
def test_leading_axes_are_independent(leading, rng):
    x = jnp.asarray(rng.normal(size=(*leading, 4, 5, 2)), jnp.float32)
    out = resize(x, (7, 9))
    assert out.shape == (*leading, 7, 9, 2)
    last = tuple(size - 1 for size in leading)
    np.testing.assert_allclose(out[last], oracle(x[last], (7, 9)), atol=2e-6)
    check_vmap(lambda one: resize_bilinear(one, (7, 9)), x, rtol=1e-7)


def test_bfloat16_is_rounded_once(rng):
    x = rng.normal(size=(4, 5, 2))
    check_dtypes(lambda x: resize(x, (7, 9)), x, dtypes=["bfloat16"], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("shape", [(6, 8), (2, 3), (1, 4)])
def test_gradient(shape, rng):
    check_gradients(
        lambda x: resize_bilinear(x, shape),
        rng.normal(size=(4, 5, 1)),
        reference=lambda x: oracle(x, shape),
    )


@pytest.mark.parametrize("shape", [(0, 4), (4, -1)])
def test_rejects_empty_shapes(shape):
    with pytest.raises(ValueError, match="shape must be positive"):
        resize_bilinear(jnp.ones((4, 5, 1)), shape)


def test_rejects_maps_without_channels(without_jaxtyping):
    with pytest.raises(ValueError, match=r"x must have the axes \[... h w c\]"):
        resize_bilinear(jnp.ones((4, 5)), (7, 9))


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (3, 6, [0, 3, 5]),
        (4, 4, [0, 1, 2, 3]),
        (5, 3, [0, 1, 1, 2, 2]),
        (6, 3, [0, 0, 1, 1, 2, 2]),
        (1, 5, [0]),
        (2, 1, [0, 0]),
    ],
)
def test_nearest_indices_by_hand(count, size, expected):
    assert nearest_indices(count, size).tolist() == expected


def test_nearest_indices_are_the_closest_and_halves_round_up():
    half = fractions.Fraction(1, 2)
    for count in range(2, 14):
        for size in range(1, 40):
            for number, index in enumerate(nearest_indices(count, size).tolist()):
                assert -half < index - fractions.Fraction(number * (size - 1), count - 1) <= half


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (3, 6, [1, 3, 5]),
        (4, 4, [0, 1, 2, 3]),
        (6, 3, [0, 0, 1, 1, 2, 2]),
        (5, 2, [0, 0, 1, 1, 1]),
        (1, 5, [2]),
        (2, 1, [0, 0]),
    ],
)
def test_nearest_indices_of_axes_whose_outer_edges_coincide(count, size, expected):
    assert nearest_indices(count, size, align_corners=False).tolist() == expected


def test_nearest_indices_read_where_resizing_does():
    """Resizing the numbers of the places gives their positions, which it keeps inside."""
    for align_corners in (True, False):
        for count, size in ((3, 7), (7, 3), (9, 4), (4, 13), (1, 6), (6, 1)):
            places = jnp.arange(size, dtype=jnp.float32)[None, :, None]
            positions = resize_bilinear(places, (1, count), align_corners).ravel()
            distances = np.abs(nearest_indices(count, size, align_corners) - np.asarray(positions))
            assert (distances <= 0.5 + 1e-5).all(), (align_corners, count, size)


@pytest.mark.parametrize(
    ("align_corners", "expected"), [(True, [[0, 5], [18, 23]]), (False, [[7, 10], [19, 22]])]
)
def test_a_nearest_grid_is_an_index(align_corners, expected):
    image = np.arange(24).reshape(4, 6)
    places = nearest_grid((2, 2), image.shape, align_corners)
    np.testing.assert_array_equal(image[places], expected)
    np.testing.assert_array_equal(jnp.asarray(image)[places], expected)
