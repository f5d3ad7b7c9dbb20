"""Pyramid pooling against PyTorch's functions on the module's own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from numpy_layers import random_variables

from ranet_jax.models.context import PSPContext

STAGE_CHANNELS, CHANNELS = 10, 6


def stages(height, width):
    values = np.random.default_rng(0).normal(size=(2, height, width, STAGE_CHANNELS))
    return {"layer3": jnp.zeros((2, 1, 1, 1)), "layer4": jnp.asarray(values, jnp.float32)}


def conv_bn_relu(x, params, stats):
    """The layer that `ConvBN` is, by PyTorch's functions in float64."""
    arrays = [params["conv"]["kernel"], *(stats["bn"][k] for k in ("mean", "var"))]
    arrays += [params["bn"][k] for k in ("scale", "bias")]
    kernel, *norm = (torch.from_numpy(np.asarray(a, np.float64)) for a in arrays)
    weight = kernel.permute(3, 2, 0, 1)
    x = torch.nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return torch.nn.functional.batch_norm(x, *norm, eps=1e-5).relu()


@pytest.mark.parametrize("shape", [(3, 8), (7, 7)])
def test_it_equals_pytorch(shape):
    module, inputs = PSPContext("layer4", CHANNELS), stages(*shape)
    variables = random_variables(module, inputs)
    output = jax.jit(module.apply)(variables, inputs)
    assert (output.coarse, output.boundary, output.regions) == (None, None, None)

    functional = torch.nn.functional
    params, stats = variables["params"], variables["batch_stats"]
    stage = torch.from_numpy(np.asarray(inputs["layer4"], np.float64)).permute(0, 3, 1, 2)
    levels = [stage]
    for bins in (1, 2, 3, 6):
        name = f"pool{bins}"
        reduced = conv_bn_relu(
            functional.adaptive_avg_pool2d(stage, bins), params[name], stats[name]
        )
        assert reduced.shape[1] == STAGE_CHANNELS // 4
        levels.append(
            functional.interpolate(reduced, size=shape, mode="bilinear", align_corners=True)
        )
    expected = conv_bn_relu(torch.cat(levels, dim=1), params["fuse"], stats["fuse"])
    np.testing.assert_allclose(
        output.features, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-4
    )


def test_parameters_are_those_of_pspnet():
    """Four 1 x 1 convolutions of 2048 to 512 channels, a 3 x 3 one of 4096 to 512, five norms."""
    inputs = {"layer4": jax.ShapeDtypeStruct((1, 9, 9, 2048), jnp.float32)}
    init = PSPContext("layer4", 512).init
    shapes = jax.eval_shape(init, jax.random.PRNGKey(0), inputs)["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 4 * 2048 * 512 + 9 * 4096 * 512 + 5 * 2 * 512
