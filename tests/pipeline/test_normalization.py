import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.pipeline.normalization import Normalization

PIXELS = np.array([[[0, 0, 0], [10, 20, 30], [250, 40, 5]]], np.float32)
# (PIXELS - (10, 20, 30)) / (2, 5, 10), by hand
EXPECTED = np.array([[[-5, -4, -3], [0, 0, 0], [120, 4, -2.5]]], np.float32)


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray, tf.constant])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_values_by_hand_in_every_library(convert, order):
    normalised = Normalization((10.0, 20.0, 30.0), (2.0, 5.0, 10.0), order)(convert(PIXELS))
    assert isinstance(normalised, type(convert(PIXELS)))
    assert np.asarray(normalised).dtype == np.float32
    expected = EXPECTED if order == "rgb" else EXPECTED[..., ::-1]
    np.testing.assert_array_equal(normalised, expected)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_undone_normalisation_gives_the_bytes_back(order):
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    normalization = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), order)
    normalised = normalization(images.astype(np.float32))
    np.testing.assert_array_equal(normalization.undo(normalised), images)


def test_released_preprocessing():
    """The authors subtract (104.00698793, 116.66876762, 122.67891434) from BGR and divide by 1."""
    config = default_config()
    config.data.mean = (122.67891434, 116.66876762, 104.00698793)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.channel_order = "bgr"
    expected = PIXELS[..., ::-1] - np.array([104.00698793, 116.66876762, 122.67891434])
    normalised = Normalization.from_config(config.data)(PIXELS)
    np.testing.assert_allclose(normalised, expected, rtol=1e-5)


def test_an_unknown_channel_order_is_named():
    config = default_config()
    config.data.channel_order = "grb"
    with pytest.raises(UserError, match=r"channel_order is 'grb'.*'rgb', 'bgr'"):
        Normalization.from_config(config.data)


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deviation_that_divides_to_nonsense_is_named(deviation):
    with pytest.raises(UserError, match=rf"data\.std holds {deviation}; choose 3 numbers"):
        Normalization((0.0, 0.0, 0.0), (1.0, deviation, 1.0))
