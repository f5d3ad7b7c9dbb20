"""ASPP and decoder of DeepLabV3+ against PyTorch's functions on the module's own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import random_variables
from helpers.torch_layers import channels_first, channels_last, conv_bn_relu, functional, tensor
from ranet_jax.models.context.deeplabv3plus import DeepLabV3PlusContext

pytestmark = pytest.mark.slow

RATES, CHANNELS = (2, 3), 6


def inside(variables, name):
    return {kind: arrays[name] for kind, arrays in variables.items()}


def depthwise(x, variables, rate):
    """A dilated convolution of each channel by itself, with BatchNorm and ReLU."""
    params, stats = variables["params"]["depthwise"], variables["batch_stats"]["depthwise"]["bn"]
    weight = tensor(params["conv"]["kernel"]).permute(3, 2, 0, 1)
    x = functional.conv2d(x, weight, padding=rate, dilation=rate, groups=x.shape[1])
    norm = [stats["mean"], stats["var"], params["bn"]["scale"], params["bn"]["bias"]]
    return functional.batch_norm(x, *map(tensor, norm), eps=1e-5).relu()


def separable(x, variables, name, rate=1):
    own = inside(variables, name)
    return conv_bn_relu(depthwise(x, own, rate), own, "pointwise")


@pytest.mark.parametrize(
    ("kernel_size", "align_corners"), [(1, True), pytest.param(3, False, marks=pytest.mark.long)]
)
def test_it_equals_pytorch(kernel_size, align_corners):
    rng = np.random.default_rng(0)
    stages = {"layer1": rng.normal(size=(2, 9, 13, 32)), "layer4": rng.normal(size=(2, 5, 7, 10))}
    stages = {name: jnp.asarray(stage, jnp.float32) for name, stage in stages.items()}
    module = DeepLabV3PlusContext("layer4", "layer1", RATES, CHANNELS, kernel_size, align_corners)
    variables = random_variables(module, stages)
    output = jax.jit(module.apply)(variables, stages)

    aspp, stage = inside(variables, "aspp"), channels_first(stages["layer4"])
    branches = [conv_bn_relu(stage, aspp, "branch0")]
    branches += [separable(stage, aspp, f"branch{i}", rate) for i, rate in enumerate(RATES, 1)]
    mean = conv_bn_relu(stage.mean((2, 3), keepdim=True), aspp, "pool")
    branches.append(mean.expand_as(branches[0]))
    assert aspp["params"]["project"]["conv"]["kernel"].shape[0] == kernel_size
    context = conv_bn_relu(torch.cat(branches, dim=1), aspp, "project")

    details = conv_bn_relu(channels_first(stages["layer1"]), variables, "shallow_reduce")
    assert details.shape[1] == 6  # 6 of 32, as 48 of 256
    context = functional.interpolate(
        context, size=(9, 13), mode="bilinear", align_corners=align_corners
    )
    context = separable(torch.cat([context, details], dim=1), variables, "refine")
    expected = separable(context, variables, "fuse")
    np.testing.assert_allclose(output.features, channels_last(expected), rtol=1e-4, atol=1e-4)
