"""Layers against NumPy and PyTorch, and on several devices against one."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import convolve, normalise, random_variables
from helpers.torch_layers import channels_first, channels_last, conv, functional
from ranet_jax.models.layers import ChannelDropout, ConvBN, batch_norm, resize_nearest, score_map

pytestmark = pytest.mark.slow

DEVICES = 2


def images(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def over_devices(function, batch):
    """`function` mapped over two devices that share a batch, its results put together again."""
    parts = batch.reshape(DEVICES, -1, *batch.shape[1:])
    mapped = jax.pmap(function, "data", devices=jax.devices()[:DEVICES])(parts)
    return jax.tree.map(np.asarray, mapped)


@pytest.mark.parametrize(
    "kernel_size, stride, dilation", [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 4), (3, 2, 2)]
)
def test_conv_bn_equals_numpy(kernel_size, stride, dilation):
    layer = ConvBN(4, kernel_size, stride, dilation, use_bias=True)
    x = images(0, (2, 7, 6, 3))
    variables = random_variables(layer, x)
    params, stats = variables["params"], variables["batch_stats"]
    pad = dilation * (kernel_size - 1) // 2
    outputs = layer.apply(variables, x)
    for image, output in zip(x, outputs, strict=True):
        expected = convolve(image, params["conv"]["kernel"], stride, dilation, pad)
        expected = normalise(
            expected + np.asarray(params["conv"]["bias"]), params["bn"], stats["bn"]
        )
        assert output.shape == (-(-7 // stride), -(-6 // stride), 4)
        np.testing.assert_allclose(output, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


def test_conv_bn_without_activation_keeps_its_sign():
    layer = ConvBN(4, activation=None)
    x = images(1, (1, 4, 4, 3))
    variables = random_variables(layer, x)
    plain = layer.apply(variables, x)
    assert plain.min() < 0
    np.testing.assert_array_equal(ConvBN(4).apply(variables, x), np.maximum(plain, 0))


def test_conv_bn_may_start_at_zero():
    layer = ConvBN(4, activation=None, initial_scale=0.0)
    outputs, _ = layer.init_with_output(jax.random.key(0), images(6, (1, 3, 3, 2)))
    np.testing.assert_array_equal(outputs, 0)


class Scores(nn.Module):
    """A module with nothing but a score map."""

    kernel_size: int

    @nn.compact
    def __call__(self, inputs):
        return score_map(inputs, 5, "logit", self.kernel_size)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_score_map_equals_pytorch(kernel_size):
    module, x = Scores(kernel_size), images(7, (2, 6, 5, 4))
    variables = random_variables(module, x)
    params = variables["params"]["logit"]
    assert params["kernel"].shape == (kernel_size, kernel_size, 4, 5)
    expected = channels_last(conv(channels_first(x), params))
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 9), (13, 17), (25, 33), (8, 5), (4, 10)])
def test_resize_nearest_equals_pytorch(shape):
    maps = images(8, (2, 4, 5, 3))
    expected = functional.interpolate(channels_first(maps), size=shape, mode="nearest")
    np.testing.assert_array_equal(resize_nearest(maps, shape), channels_last(expected))


def test_resize_nearest_by_hand():
    """3 pixels are resized to 5, to 6 and to 7."""
    row = jnp.arange(3.0).reshape(1, 1, 3, 1)
    for size, expected in ((5, "00112"), (6, "001122"), (7, "0001122")):
        assert "".join(str(int(x)) for x in resize_nearest(row, (1, size)).ravel()) == expected


class Norm(nn.Module):
    """A module with nothing but BatchNorm."""

    train: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs):
        return batch_norm(self.train, axis_name=self.axis_name, name="bn")(inputs)


def test_batch_norm_over_devices_equals_the_whole_batch():
    x = images(2, (4, 3, 5, 2)) * jnp.arange(1.0, 5.0)[:, None, None, None]
    variables = random_variables(Norm(train=True), x)

    def run(x, axis_name):
        layer = Norm(train=True, axis_name=axis_name)
        return layer.apply(variables, x, mutable=["batch_stats"])

    outputs, updated = over_devices(lambda part: run(part, "data"), x)
    pixels = np.asarray(x, np.float64).reshape(-1, 2)
    mean, variance = pixels.mean(axis=0), pixels.var(axis=0)
    expected = normalise(np.asarray(x), variables["params"]["bn"], {"mean": mean, "var": variance})
    np.testing.assert_allclose(outputs.reshape(x.shape), expected, rtol=1e-4, atol=1e-4)
    before = variables["batch_stats"]["bn"]
    for name, statistic in (("mean", mean), ("var", variance)):
        moved = 0.9 * np.asarray(before[name]) + 0.1 * statistic
        for device in range(DEVICES):
            np.testing.assert_allclose(updated["batch_stats"]["bn"][name][device], moved, rtol=1e-4)


def test_batch_norm_in_evaluation_needs_no_axis():
    x = images(3, (2, 3, 3, 2))
    layer = Norm(train=False, axis_name="data")
    variables = random_variables(layer, x)
    expected = normalise(np.asarray(x), variables["params"]["bn"], variables["batch_stats"]["bn"])
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def dropped(x, seed=0, rate=0.3, axis_name=None):
    rngs = {"dropout": jax.random.key(seed)}
    return ChannelDropout(rate, axis_name).apply({}, x, train=True, rngs=rngs)


def test_dropout_is_the_same_on_any_number_of_devices():
    x = images(4, (4, 2, 3, 50))
    shared = over_devices(functools.partial(dropped, axis_name="data"), x)
    np.testing.assert_array_equal(shared.reshape(x.shape), dropped(x))


def test_dropout_drops_whole_channels_at_its_rate_and_scales_the_others():
    count, rate = 8 * 1000, 0.3
    kept = np.asarray(dropped(jnp.ones((8, 2, 2, 1000)), rate=rate))
    assert (kept == kept[:, :1, :1]).all()
    fraction = (kept[:, 0, 0] == 0).mean()
    deviation = np.sqrt(rate * (1 - rate) / count)
    assert abs(fraction - rate) < 5 * deviation
    np.testing.assert_allclose(kept[kept != 0], 1 / (1 - rate), rtol=1e-6)


def test_dropout_differs_from_image_to_image_and_from_key_to_key():
    x = jnp.ones((2, 1, 1, 100))
    first, second = np.asarray(dropped(x))
    assert (first != second).any()
    assert (np.asarray(dropped(x, seed=1)) != np.stack([first, second])).any()


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero():
    x = images(5, (2, 2, 2, 4))
    np.testing.assert_array_equal(ChannelDropout(0.5, "data").apply({}, x), x)
    np.testing.assert_array_equal(dropped(x, rate=0.0), x)
