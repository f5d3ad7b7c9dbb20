"""Asymmetric non-local attention by PyTorch's functions on the module's own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy_layers import random_variables
from torch_layers import channels_first, channels_last, conv, conv_bn_relu, functional

from ranet_jax.models.context import AsymmetricContext
from ranet_jax.models.context.asymmetric import sample_pyramid


def pyramid(maps):
    """Rows of [b, c, h, w] maps' means over four grids."""
    pooled = [functional.adaptive_avg_pool2d(maps, bins).flatten(2) for bins in (1, 3, 6, 8)]
    return torch.cat(pooled, dim=2).transpose(1, 2)


@pytest.mark.parametrize("shape", [(4, 5), (9, 9)])
def test_context_equals_pytorch(shape):
    module = AsymmetricContext("layer4", 6)
    values = np.random.default_rng(1).normal(size=(2, *shape, 5))
    inputs = {"layer4": jnp.asarray(values, jnp.float32)}
    variables = random_variables(module, inputs)
    params = variables["params"]
    output = jax.jit(module.apply)(variables, inputs)

    visual = conv_bn_relu(channels_first(inputs["layer4"]), variables, "reduce")
    query = conv_bn_relu(visual, variables, "query_key")
    value = conv(visual, params["value"])
    assert query.shape[1] == value.shape[1] == 3
    rows = query.flatten(2).transpose(1, 2)
    assert pyramid(query).shape == (2, 110, 3)
    weights = torch.softmax(rows @ pyramid(query).transpose(1, 2) / 3**0.5, dim=-1)
    gathered = (weights @ pyramid(value)).transpose(1, 2).reshape(value.shape)
    context = conv(gathered, params["project"])
    expected = conv_bn_relu(torch.cat([context, visual], dim=1), variables, "fuse")
    np.testing.assert_allclose(output.features, channels_last(expected), rtol=1e-4, atol=1e-4)


def test_a_constant_map_has_constant_samples():
    samples = sample_pyramid(jnp.full((5, 7, 2), 3.0))
    np.testing.assert_allclose(samples, np.full((110, 2), 3.0), rtol=1e-6)


def test_training_starts_from_the_network_without_context():
    inputs = {"layer4": jnp.ones((1, 3, 3, 4))}
    params = jax.jit(AsymmetricContext("layer4", 8).init)(jax.random.PRNGKey(0), inputs)["params"]
    assert not np.any(params["project"]["kernel"])
