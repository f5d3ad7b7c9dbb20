"""Parameters of every context block, against the count of the same layers in PyTorch."""

import jax
import jax.numpy as jnp
import pytest
from torch import nn

from helpers.small_models import block_id
from ranet_jax.config import default_config
from ranet_jax.models import build_model
from ranet_jax.models.context import BLOCKS

CLASSES = 19


def conv_bn(inputs, outputs, size=1):
    return [nn.Conv2d(inputs, outputs, size, bias=False), nn.BatchNorm2d(outputs)]


def conv_gn(inputs):
    return [nn.Conv2d(inputs, 512, 3, bias=False), nn.GroupNorm(32, 512)]


def biased(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 1)]


def query_key_value():
    return [*biased(512, 64), *biased(512, 64), *biased(512, 512)]


def separable(inputs, outputs):
    depthwise = nn.Conv2d(inputs, inputs, 3, groups=inputs, bias=False)
    return [depthwise, nn.BatchNorm2d(inputs), *conv_bn(inputs, outputs)]


def linear_separable(inputs, outputs):
    depthwise, _, *pointwise = separable(inputs, outputs)
    return [depthwise, *pointwise]


SEPARABLE_ASPP = [*2 * conv_bn(2048, 512), *3 * separable(2048, 512)]
DECODER = [*conv_bn(256, 48), *separable(512 + 48, 512), *separable(512, 512)]
SCALE = [nn.PReLU()]  # one number, like the weight of an attention's residual
# Blocks on layer4 of a ResNet-101, with 2,048 channels, and on the earlier stages if they read
# those too. The classifier is left out.
LAYERS = {
    "ranet": [
        *conv_bn(2048, 512, 3),
        *biased(512, CLASSES),
        *biased(512, 2),
        *SCALE,  # W^g of 1 x 1
        *conv_bn(512, 512),
        *conv_bn(1024, 512, 3),
    ],
    "released": [
        nn.Conv2d(1024, 512, 3),
        nn.BatchNorm2d(512),
        *biased(512, CLASSES),
        *biased(512, 2),
        *conv_bn(2048, 512, 3),
        *5 * conv_bn(512, 512, 3),
        *conv_bn(1024, 512, 3),
    ],
    "nonlocal": [
        *conv_bn(2048, 512, 3),
        *3 * [nn.Conv2d(512, 256, 1, bias=False)],
        *conv_bn(256, 512),
        *conv_bn(1024, 512, 3),
    ],
    "none": [*conv_bn(2048, 512, 3), *conv_bn(512, 512, 3)],
    "psp": [*4 * conv_bn(2048, 512), *conv_bn(4096, 512, 3)],
    "asymmetric": [
        *conv_bn(2048, 256),
        *conv_bn(1024, 256),
        *biased(1024, 256),
        *biased(256, 2048),
        *conv_bn(4096, 2048),
        *conv_bn(2048, 512, 3),
        *conv_bn(512, 256),
        *biased(512, 256),
        *biased(256, 512),
        *conv_bn(1024, 512),
    ],
    "ccnet": [
        *conv_bn(2048, 512, 3),
        *query_key_value(),
        *SCALE,
        *conv_bn(512, 512, 3),
        *conv_bn(2048 + 512, 512, 3),
    ],
    "danet": [
        *2 * conv_bn(2048, 512, 3),
        *query_key_value(),
        *2 * SCALE,
        *2 * conv_bn(512, 512, 3),
    ],
    "psanet": [
        *2 * conv_bn(2048, 512),
        *2 * conv_bn(512, 512),
        *2 * [nn.Conv2d(512, 97**2, 1, bias=False)],
        *conv_bn(1024, 2048),
        *conv_bn(4096, 512, 3),
    ],
    "nonlocal_mmsegmentation": [
        *conv_bn(2048, 512, 3),
        *3 * biased(512, 256),
        *conv_bn(256, 512),
        *conv_bn(512, 512, 3),
        *conv_bn(2048 + 512, 512, 3),
    ],
    "ocr_mmsegmentation": [
        *conv_bn(2048, 512, 3),
        *conv_bn(1024, 256, 3),
        *biased(256, CLASSES),
        *2 * [*conv_bn(512, 256), *conv_bn(256, 256)],
        *conv_bn(512, 256),
        *conv_bn(256, 512),
        *conv_bn(1024, 512),
    ],
    "ocr": [
        *conv_bn(2048, 512, 3),
        *conv_bn(1024, 512, 3),
        *biased(512, CLASSES),
        *2 * [*conv_bn(512, 256), *conv_bn(256, 256)],
        *conv_bn(512, 256),
        *conv_bn(256, 512),
        *conv_bn(1024, 512),
    ],
    "aspp": [
        *conv_bn(2048, 512),
        *3 * conv_bn(2048, 512, 3),
        *conv_bn(2048, 512),
        *conv_bn(5 * 512, 512),
        *conv_bn(512, 512, 3),
    ],
    "aspp_mmsegmentation": [
        *conv_bn(2048, 512),
        *3 * conv_bn(2048, 512, 3),
        *conv_bn(2048, 512),
        *conv_bn(5 * 512, 512, 3),
    ],
    "deeplabv3plus": [*SEPARABLE_ASPP, *conv_bn(5 * 512, 512), *DECODER],
    "deeplabv3plus_mmsegmentation": [*SEPARABLE_ASPP, *conv_bn(5 * 512, 512, 3), *DECODER],
    "deeplabv3plus_segmentation_models": [
        *2 * conv_bn(2048, 512),
        *3 * linear_separable(2048, 512),
        *conv_bn(5 * 512, 512),
        *linear_separable(512, 512),
        *conv_bn(256, 96),
        *linear_separable(512 + 96, 512),
    ],
    "fcn": conv_bn(2048, 512, 3),
    "fcn_mmsegmentation": [
        *conv_bn(2048, 512, 3),
        *conv_bn(512, 512, 3),
        *conv_bn(2048 + 512, 512, 3),
    ],
    "psp_segmentation_models": [
        *biased(2048, 512),
        *3 * conv_bn(2048, 512),
        *conv_bn(4096, 512),
    ],
    "unet": [
        layer
        for inputs, outputs in (
            *((2048 + 1024, 512), (512 + 512, 256), (256 + 256, 128)),
            *((128 + 64, 64), (64, 32)),
        )
        for layer in (*conv_bn(inputs, outputs, 3), *conv_bn(outputs, outputs, 3))
    ],
    "fpn": [
        *(layer for width in (2048, 1024, 512, 256) for layer in biased(width, 1024)),
        *4 * conv_gn(1024),
        *3 * conv_gn(512),
    ],
    "lraspp": [*conv_bn(2048, 512), nn.Conv2d(2048, 512, 1, bias=False)],
}


LAYERS["psanet_mmsegmentation"] = LAYERS["psanet"]


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=block_id)
def test_parameters_are_those_of_the_layers(block):
    config = default_config()
    config.model.update(backbone="resnet101", context=block.name)
    if block.variant is not None:
        config.model.variant = block.variant
    if block.variant == "released":
        config.model.stem = "deep"
    if block.name in ("aspp", "deeplabv3plus"):
        config.model.aspp_rates = (12, 24, 36)
    widths = {"image": 3, "stem": 64}
    widths |= {f"layer{stage}": 128 * 2**stage for stage in range(1, 5)}
    features = {
        name: jax.ShapeDtypeStruct((1, 9, 9, width), jnp.float32) for name, width in widths.items()
    }
    module = build_model(config, CLASSES).context

    def parameters(stages):
        return module.init(jax.random.PRNGKey(0), stages)["params"]

    params = jax.eval_shape(parameters, features)
    expected = sum(p.numel() for layer in LAYERS[block_id(block)] for p in layer.parameters())
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
