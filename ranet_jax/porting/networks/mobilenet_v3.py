"""MobileNetV3-Large for ImageNet in torchvision's names."""

from typing import Any

import flax.linen as nn

from ranet_jax.models.backbones import MobileNetV3
from ranet_jax.models.backbones.mobilenet_v3 import STAGES as SEQUENCES
from ranet_jax.porting.files import import_optional
from ranet_jax.porting.name_patterns import Entry, Naming, conv, conv_norm, linear
from ranet_jax.porting.networks.network import Network, Source, Twin
from ranet_jax.porting.networks.pytorch import import_torchvision


def _blocks() -> list[Entry]:
    """The blocks, whose parts torchvision numbers; a part that a block lacks has no number."""
    entries = conv_norm("0", "stem")
    index, channels = 0, 16
    for _, blocks in SEQUENCES:
        for _, expanded, features, squeezed, _ in blocks:
            index += 1
            parts = ["expand"] if expanded != channels else []
            parts += ["depthwise", *(["excite"] if squeezed else []), "project"]
            for number, part in enumerate(parts):
                source, target = f"{index}.block.{number}", f"block{index}/{part}"
                if part == "excite":
                    entries += conv(f"{source}.fc1", f"{target}/fc1")
                    entries += conv(f"{source}.fc2", f"{target}/fc2")
                else:
                    entries += conv_norm(source, target)
            channels = features
    return entries + conv_norm(f"{index + 1}", "head")


# The parts of the network that torchvision's segmenters have, each by its number.
FEATURES = tuple(_blocks())
TORCHVISION = Naming(
    "torchvision",
    (
        *(Entry(f"features.{e.source}", e.target, e.transform) for e in FEATURES),
        *linear("classifier.0", "hidden"),
        *linear("classifier.3", "classifier"),
    ),
)


def _build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
    return MobileNetV3(output_stride=output_stride, num_classes=num_classes)


def torch_backbone(output_stride: int, num_classes: int | None) -> Any:
    """torchvision's network; it supports the output strides 16 and 32, and 8 is added here."""
    mobilenetv3 = import_torchvision().models.mobilenetv3
    settings, last = mobilenetv3._mobilenet_v3_conf(
        "mobilenet_v3_large", dilated=output_stride <= 16
    )
    if output_stride == 8:
        for number, block in enumerate(settings, 1):
            if number >= 7:  # the first block of stride 16
                block.dilation *= 2
    model = mobilenetv3.MobileNetV3(settings, last, num_classes=num_classes or 1)
    if num_classes is None:
        model.classifier = import_optional("torch", "verify a network").nn.Identity()
    return model


STAGES = {
    "stem": "features.0",
    "stage3_first": "features.4",
    **{
        f"stage{stage}": f"features.{block}" for stage, block in enumerate((1, 3, 6, 10, 12, 15), 1)
    },
    "head": "features.16",
    "logits": "classifier",
}
NETWORKS = (
    Network(
        "mobilenetv3_large",
        (TORCHVISION,),
        32,
        "params/classifier/bias",
        _build,
        twin=Twin(
            lambda output_stride, num_classes, source: torch_backbone(output_stride, num_classes),
            STAGES,
            # XLA takes seconds to convolve a map in float64 that is smaller than the kernel.
            size=(161, 194),
        ),
    ),
)
