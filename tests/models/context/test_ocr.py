"""Object-contextual representations against PyTorch's functions on the module's parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import random_variables
from helpers.torch_layers import channels_first, channels_last, conv, conv_bn_relu, resize
from ranet_jax.models.context.ocr import OCRContext, region_representations

pytestmark = pytest.mark.slow

CLASSES, CHANNELS = 3, 6


def test_the_representation_of_a_region_that_is_sure_is_its_mean():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    scores = 1e3 * jax.nn.one_hot(jnp.array([0, 1, 1, 0, 0]), 2)
    expected = np.stack([features[np.array([0, 3, 4])].mean(0), features[1:3].mean(0)])
    np.testing.assert_allclose(region_representations(features, scores), expected, rtol=1e-5)


def test_context_equals_pytorch():
    """Coarse scores come from a stage of another resolution."""
    rng = np.random.default_rng(1)
    inputs = {
        "layer3": jnp.asarray(rng.normal(size=(2, 7, 9, 4)), jnp.float32),
        "layer4": jnp.asarray(rng.normal(size=(2, 4, 5, 8)), jnp.float32),
    }
    module = OCRContext(CLASSES, "layer4", "layer3", CHANNELS)
    variables = random_variables(module, inputs)
    output = jax.jit(module.apply)(variables, inputs)

    def layers(x, *names):
        for name in names:
            x = conv_bn_relu(x, variables, name)
        return x

    visual = layers(channels_first(inputs["layer4"]), "reduce")
    coarse = conv(
        layers(channels_first(inputs["layer3"]), "score_reduce"),
        variables["params"]["semantic_logit"],
    )
    coarse = resize(coarse, (4, 5))
    np.testing.assert_allclose(output.coarse, channels_last(coarse), rtol=1e-4, atol=1e-4)
    weights = torch.softmax(coarse.flatten(2), dim=2)  # over pixels
    regions = (weights @ visual.flatten(2).transpose(1, 2)).transpose(1, 2)[..., None]
    assert regions.shape == (2, CHANNELS, CLASSES, 1)
    query = layers(visual, "pixel1", "pixel2").flatten(2).transpose(1, 2)
    key = layers(regions, "region1", "region2").flatten(2)
    value = layers(regions, "region_value").flatten(2).transpose(1, 2)
    relation = torch.softmax(query @ key / (CHANNELS // 2) ** 0.5, dim=-1)
    gathered = (relation @ value).transpose(1, 2).reshape(2, -1, 4, 5)
    context = layers(gathered, "project")
    expected = layers(torch.cat([context, visual], dim=1), "fuse")
    np.testing.assert_allclose(output.features, channels_last(expected), rtol=1e-4, atol=1e-4)
