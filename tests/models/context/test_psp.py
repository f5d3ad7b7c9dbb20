"""Pyramid pooling against PyTorch's functions on the module's own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import random_variables
from helpers.segmentation_models import decode, package
from helpers.torch_layers import channels_first, channels_last, conv_bn_relu, functional, resize
from ranet_jax.models.context.psp import PSPContext
from ranet_jax.porting.networks.segmentation_models import PSPNET

pytestmark = pytest.mark.slow

STAGE_CHANNELS, CHANNELS = 10, 6


def stages(height, width):
    values = np.random.default_rng(0).normal(size=(2, height, width, STAGE_CHANNELS))
    return {"layer3": jnp.zeros((2, 1, 1, 1)), "layer4": jnp.asarray(values, jnp.float32)}


@pytest.mark.parametrize("shape", [(3, 8), (7, 7)])
def test_it_equals_pytorch(shape):
    module, inputs = PSPContext("layer4", CHANNELS), stages(*shape)
    variables = random_variables(module, inputs)
    output = jax.jit(module.apply)(variables, inputs)
    assert (output.coarse, output.boundary, output.regions) == (None, None, None)

    stage = channels_first(inputs["layer4"])
    levels = [stage]
    for bins in (1, 2, 3, 6):
        means = functional.adaptive_avg_pool2d(stage, bins)
        reduced = conv_bn_relu(means, variables, f"pool{bins}")
        assert reduced.shape[1] == STAGE_CHANNELS // 4
        levels.append(resize(reduced, shape))
    expected = conv_bn_relu(torch.cat(levels, dim=1), variables, "fuse")
    np.testing.assert_allclose(output.features, channels_last(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 8), (7, 7)])
def test_the_light_form_equals_that_of_segmentation_models(shape):
    inputs = {"layer4": stages(*shape)["layer4"][..., :8]}
    module = PSPContext("layer4", CHANNELS, light=True)
    variables = random_variables(module, inputs)
    output = jax.jit(module.apply)(variables, inputs)
    decoder = package.decoders.pspnet.decoder.PSPDecoder((3, 8), out_channels=CHANNELS)
    expected = decode(decoder, PSPNET.entries, variables, list(inputs.values()))
    np.testing.assert_allclose(output.features, expected, rtol=1e-4, atol=1e-4)
