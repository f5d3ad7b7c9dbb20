"""MobileNetV2 for ImageNet: torchvision's names, the current ones and those before version 0.3."""

from typing import Any

import flax.linen as nn

from ranet_jax.models.backbones import MobileNetV2
from ranet_jax.porting.files import import_optional
from ranet_jax.porting.name_patterns import Naming, conv, conv_norm, linear, norm
from ranet_jax.porting.networks.network import Network, Source, Twin
from ranet_jax.porting.networks.pytorch import import_torchvision

TORCHVISION = Naming(
    "torchvision",
    (
        *conv_norm("features.0", "stem"),
        # The first block expands nothing.
        *conv_norm("features.1.conv.0", "block1/depthwise"),
        *conv("features.1.conv.1", "block1/project/conv"),
        *norm("features.1.conv.2", "block1/project/bn"),
        *conv_norm("features.18", "head"),
        *conv_norm("features.{b}.conv.0", "block{b}/expand"),
        *conv_norm("features.{b}.conv.1", "block{b}/depthwise"),
        *conv("features.{b}.conv.2", "block{b}/project/conv"),
        *norm("features.{b}.conv.3", "block{b}/project/bn"),
        *linear("classifier.1", "classifier"),
    ),
)

# Blocks as one Sequential of convolutions, BatchNorms and activations, before torchvision 0.3 and
# in the checkpoints of that time.
FLAT = Naming(
    "flat",
    (
        *conv_norm("features.0", "stem"),
        *conv("features.1.conv.0", "block1/depthwise/conv"),
        *norm("features.1.conv.1", "block1/depthwise/bn"),
        *conv("features.1.conv.3", "block1/project/conv"),
        *norm("features.1.conv.4", "block1/project/bn"),
        *conv_norm("features.18", "head"),
        *conv("features.{b}.conv.0", "block{b}/expand/conv"),
        *norm("features.{b}.conv.1", "block{b}/expand/bn"),
        *conv("features.{b}.conv.3", "block{b}/depthwise/conv"),
        *norm("features.{b}.conv.4", "block{b}/depthwise/bn"),
        *conv("features.{b}.conv.6", "block{b}/project/conv"),
        *norm("features.{b}.conv.7", "block{b}/project/bn"),
        *linear("classifier.1", "classifier"),
    ),
    "torchvision before version 0.3",
)


def _build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
    return MobileNetV2(output_stride=output_stride, num_classes=num_classes)


def _twin(output_stride: int, num_classes: int | None, source: Source) -> Any:
    model = import_torchvision().models.mobilenet_v2(num_classes=num_classes or 1)
    if num_classes is None:
        del model.classifier[1]
    _dilate(model, output_stride)
    return model


def _dilate(model: Any, output_stride: int) -> None:
    """Replace strides past the output stride by dilation in each 3 x 3 convolution after them."""
    torch = import_optional("torch", "verify a network")
    stride, dilation = 1, 1
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            own = module.stride[0]
            module.dilation = (dilation, dilation)
            module.padding = (dilation, dilation)
            if stride * own > output_stride:
                dilation, module.stride = dilation * own, (1, 1)
            else:
                stride *= own


STAGES = {
    "stem": "features.0",
    **{
        f"stage{stage}": f"features.{block}"
        for stage, block in enumerate((1, 3, 6, 10, 13, 16, 17), 1)
    },
    "head": "features.18",
    "logits": "classifier.1",
}
NETWORKS = (
    Network(
        "mobilenetv2",
        (TORCHVISION, FLAT),
        32,
        "params/classifier/bias",
        _build,
        twin=Twin(_twin, STAGES),
    ),
)
