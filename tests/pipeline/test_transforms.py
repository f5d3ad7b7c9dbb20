"""Rotation, blur and hue against Pillow, `colorsys` and sums written out."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from ranet_jax.pipeline.transforms import blur, rotate, shift_hue

FILL = (10.0, 20.0, 30.0)


def example(height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (height, width, 3)).astype(np.float32)
    return image, rng.integers(0, 200, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("degrees", [-170.0, -33.3, 5.0, 13.7, 71.0])
@pytest.mark.parametrize("size", [(24, 31), (15, 8)])
def test_rotation_is_that_of_pillow(size, degrees):
    image, label = example(*size)
    rotated, labels = rotate(image, label, degrees, FILL)
    expected = Image.fromarray(label).rotate(degrees, Image.Resampling.NEAREST, fillcolor=255)
    np.testing.assert_array_equal(labels, np.asarray(expected))
    for channel, fill in enumerate(FILL):
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        expected = plane.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)
        np.testing.assert_allclose(rotated[..., channel], np.asarray(expected), atol=0.01)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
def test_quarter_turns_lose_no_pixel(quarters):
    image, label = example(9, 9)
    rotated, labels = rotate(image, label, 90.0 * quarters, FILL)
    np.testing.assert_array_equal(labels, np.rot90(label, quarters))
    np.testing.assert_allclose(rotated, np.rot90(image, quarters), atol=1e-3)


def test_the_rotation_of_the_docstring():
    image, label = example(2, 2)
    label[:] = [[1, 2], [1, 3]]
    assert rotate(image, label, 90.0, FILL)[1].tolist() == [[2, 3], [1, 1]]


def test_outside_is_the_same_for_image_and_labels():
    image, label = example(20, 30)
    rotated, labels = rotate(image, label, 45.0, FILL)
    outside = labels == 255
    assert 0 < outside.sum() < outside.size / 2
    np.testing.assert_array_equal(outside, (rotated == np.float32(FILL)).all(axis=-1))


@pytest.mark.parametrize("deviation", [0.5, 1.7])
def test_blur_is_a_sum_over_a_gaussian(deviation):
    image, _ = example(13, 9)
    reach = int(4 * deviation + 0.5)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    padded = np.pad(image.astype(np.float64), [(reach, reach), (reach, reach), (0, 0)], "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (len(weights),) * 2, axis=(0, 1))
    expected = np.einsum("yxcij,i,j->yxc", windows, weights, weights)
    np.testing.assert_allclose(blur(image, deviation), expected, rtol=1e-4)
    assert blur(image, deviation).dtype == np.float32


def test_no_blur_and_even_colours():
    image, _ = example(6, 7)
    np.testing.assert_array_equal(blur(image, 0.0), image)
    even = np.full((6, 7, 3), 40.0, np.float32)
    np.testing.assert_allclose(blur(even, 3.0), even, rtol=1e-6)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.07, 1 / 3])
def test_hue_is_that_of_colorsys(turns):
    image, _ = example(8, 9)
    image[0] = np.arange(9)[:, None] * 30.0  # greys have no hue
    image[1, :, 0] = image[1, :, 1]  # and two channels may be equal
    image[2] = 0.0
    expected = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[place].astype(np.float64) / 255))
        expected[place] = colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value)
    found = shift_hue(image, turns)
    np.testing.assert_allclose(found, 255 * expected, atol=0.01)
    assert found.dtype == np.float32


def test_a_third_of_a_turn_makes_red_green():
    image = np.zeros((1, 3, 3), np.float32)
    image[0, [0, 1, 2], [0, 1, 2]] = 200.0
    shifted = shift_hue(image, 1 / 3)
    np.testing.assert_allclose(shifted[0], 200.0 * np.eye(3)[[1, 2, 0]], atol=1e-2)
