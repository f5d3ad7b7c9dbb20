"""Asymmetric non-local attention against PyTorch's functions on the module's own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import random_variables
from helpers.torch_layers import (
    channels_first,
    channels_last,
    conv,
    conv_bn,
    conv_bn_relu,
    functional,
)
from ranet_jax.models.context.asymmetric import AsymmetricContext, sample_pyramid

pytestmark = pytest.mark.slow


def pyramid(maps):
    """Means of [b, c, h, w] maps over four grids, as rows."""
    pooled = [functional.adaptive_avg_pool2d(maps, bins).flatten(2) for bins in (1, 3, 6, 8)]
    return torch.cat(pooled, dim=2).transpose(1, 2)


def attend_samples(query, key, value):
    rows = query.flatten(2).transpose(1, 2)
    assert pyramid(key).shape == (2, 110, 3)
    weights = torch.softmax(rows @ pyramid(key).transpose(1, 2) / 3**0.5, dim=-1)
    return (weights @ pyramid(value)).transpose(1, 2).reshape(2, 3, *query.shape[2:])


@pytest.mark.parametrize("shape, earlier_shape", [((4, 5), (9, 10)), ((9, 9), None)])
def test_context_equals_pytorch(shape, earlier_shape):
    rng = np.random.default_rng(1)
    inputs = {"layer4": jnp.asarray(rng.normal(size=(2, *shape, 5)), jnp.float32)}
    if earlier_shape is not None:
        inputs["layer3"] = jnp.asarray(rng.normal(size=(2, *earlier_shape, 4)), jnp.float32)
    module = AsymmetricContext("layer4", "layer3" if earlier_shape else "", channels=6)
    variables = random_variables(module, inputs)
    params = variables["params"]
    output = jax.jit(module.apply)(variables, inputs)

    visual = channels_first(inputs["layer4"])
    if earlier_shape is not None:
        earlier = channels_first(inputs["layer3"])
        query = conv_bn_relu(visual, variables, "fusion_query")
        key = conv_bn_relu(earlier, variables, "fusion_key")
        gathered = attend_samples(query, key, conv(earlier, params["fusion_value"]))
        context = conv(gathered, params["fusion_project"])
        visual = conv_bn(torch.cat([context, visual], dim=1), variables, "fusion_fuse")
    visual = conv_bn_relu(visual, variables, "reduce")
    query = conv_bn_relu(visual, variables, "query_key")
    gathered = attend_samples(query, query, conv(visual, params["value"]))
    context = conv(gathered, params["project"])
    expected = conv_bn_relu(torch.cat([context, visual], dim=1), variables, "fuse")
    np.testing.assert_allclose(output.features, channels_last(expected), rtol=1e-4, atol=1e-4)


def test_a_constant_map_has_constant_samples():
    samples = sample_pyramid(jnp.full((5, 7, 2), 3.0))
    np.testing.assert_allclose(samples, np.full((110, 2), 3.0), rtol=1e-6)


def test_training_starts_from_the_network_without_context():
    inputs = {"layer3": jnp.ones((1, 5, 5, 2)), "layer4": jnp.ones((1, 3, 3, 4))}
    init = jax.jit(AsymmetricContext("layer4", "layer3", channels=8).init)
    params = init(jax.random.PRNGKey(0), inputs)["params"]
    assert not np.any(params["project"]["kernel"])
    assert not np.any(params["fusion_project"]["kernel"])
