"""Dual attention against NumPy loops, and its block against PyTorch's functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import random_variables, softmax
from helpers.torch_layers import channels_first, channels_last, conv, conv_bn_relu, tensor
from ranet_jax.models.context.danet import DAContext, channel_attention, position_attention

pytestmark = pytest.mark.slow


def expected_positions(query, key, value):
    q, k, v = (np.asarray(x, np.float64) for x in (query, key, value))
    return np.stack([softmax(k @ one) @ v for one in q])


def expected_channels(features):
    x = np.asarray(features, np.float64)
    gathered = []
    for channel in x.T:
        energy = np.array([channel @ other for other in x.T])
        gathered.append(softmax(energy.max() - energy) @ x.T)
    return np.stack(gathered, axis=-1)


def random_array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_attentions_equal_numpy():
    arrays = random_array(7, 3), random_array(7, 3, seed=1), random_array(7, 4, seed=2)
    found = jax.jit(position_attention)(*arrays)
    np.testing.assert_allclose(found, expected_positions(*arrays), atol=1e-6)
    features = random_array(9, 5)
    found = jax.jit(channel_attention)(features)
    np.testing.assert_allclose(found, expected_channels(features), atol=1e-5)


def test_context_equals_pytorch():
    module, inputs = DAContext("layer4", 16), {"layer4": random_array(2, 4, 5, 6)}
    variables = random_variables(module, inputs)
    params = variables["params"]
    assert params["key"]["kernel"].shape == (1, 1, 16, 2)
    output = jax.jit(module.apply)(variables, inputs)

    stage = channels_first(inputs["layer4"])
    x = conv_bn_relu(stage, variables, "position_reduce")
    embedded = [channels_last(conv(x, params[name])) for name in ("query", "key", "value")]
    rows = [maps.reshape(2, 20, -1) for maps in embedded]
    gathered = np.stack([expected_positions(*image) for image in zip(*rows, strict=True)])
    x = x + tensor(params["position_gamma"]) * channels_first(gathered.reshape(2, 4, 5, 16))
    positions = conv_bn_relu(x, variables, "position_fuse")

    x = conv_bn_relu(stage, variables, "channel_reduce")
    gathered = np.stack([expected_channels(image.reshape(20, 16)) for image in channels_last(x)])
    x = x + tensor(params["channel_gamma"]) * channels_first(gathered.reshape(2, 4, 5, 16))
    channels = conv_bn_relu(x, variables, "channel_fuse")
    expected = channels_last(positions + channels)
    np.testing.assert_allclose(output.features, expected, rtol=1e-4, atol=1e-4)
    branches = {"position": positions, "channel": channels}
    assert output.branches.keys() == branches.keys()
    for name, addend in branches.items():
        np.testing.assert_allclose(
            output.branches[name], channels_last(addend), rtol=1e-4, atol=1e-4
        )


def test_training_starts_from_the_network_without_attention():
    inputs = {"layer4": random_array(1, 3, 3, 4)}
    params = jax.jit(DAContext("layer4", 8).init)(jax.random.PRNGKey(0), inputs)["params"]
    assert (params["position_gamma"], params["channel_gamma"]) == (0, 0)
