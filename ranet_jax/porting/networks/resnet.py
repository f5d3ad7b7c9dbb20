"""ResNets for ImageNet: the names of torchvision, mmsegmentation and timm."""

from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn

from ranet_jax.models.backbones import ResNet
from ranet_jax.models.backbones.resnet import BLOCKS, STEM_D, VARIANTS_D
from ranet_jax.porting.files import import_optional
from ranet_jax.porting.name_patterns import (
    SAME,
    Entry,
    Naming,
    Transform,
    conv,
    linear,
    norm,
    within,
)
from ranet_jax.porting.networks.network import Network, Source, Twin
from ranet_jax.porting.networks.pytorch import timm_network


def residual(scale: Transform = SAME, shortcut: int = 0) -> list[Entry]:
    """A residual block; its shortcut's convolution has the number `shortcut` in a Sequential."""
    return [
        *conv("conv{n}", "conv{n}"),
        *norm("bn{n}", "bn{n}", scale),
        *conv(f"downsample.{shortcut}", "conv_shortcut"),
        *norm(f"downsample.{shortcut + 1}", "bn_shortcut", scale),
    ]


def stages(scale: Transform = SAME, shortcut: int = 0) -> list[Entry]:
    """The blocks of layer1 to layer4."""
    return within(residual(scale, shortcut), "layer{s}.{b}.", "layer{s}_block{b}")


def numbered_stem(scale: Transform = SAME) -> list[Entry]:
    """conv1/bn1 of a stem of one convolution; conv1/bn1, conv2/bn2, ... of a deep one."""
    return [*conv("conv{n}", "conv{n}"), *norm("bn{n}", "bn{n}", scale)]


# For deep stems, the toolboxes of CSAIL and of the paper's authors use these names too.
TORCHVISION = Naming(
    "torchvision",
    (*numbered_stem(), *stages(), *linear("fc", "fc")),
    "torchvision, timm",
)
NUMBERED = replace(TORCHVISION, users="CSAIL, RANet's authors")

# A deep stem as one Sequential of convolution, BatchNorm and ReLU, three times.
MMSEGMENTATION = Naming(
    "mmsegmentation",
    (
        *conv("stem.0", "conv1"),
        *norm("stem.1", "bn1"),
        *conv("stem.3", "conv2"),
        *norm("stem.4", "bn2"),
        *conv("stem.6", "conv3"),
        *norm("stem.7", "bn3"),
        *stages(),
        *linear("fc", "fc"),
    ),
)
# The same Sequential under the name conv1, with its last BatchNorm outside.
_TIMM_STEM = (
    *conv("conv1.0", "conv1"),
    *norm("conv1.1", "bn1"),
    *conv("conv1.3", "conv2"),
    *norm("conv1.4", "bn2"),
    *conv("conv1.6", "conv3"),
    *norm("bn1", "bn3"),
)
TIMM = Naming("timm", (*_TIMM_STEM, *stages(), *linear("fc", "fc")))
# Its shortcuts begin with a mean over pixels.
TIMM_D = Naming("timm", (*_TIMM_STEM, *stages(shortcut=1), *linear("fc", "fc")))

LAYERS = {f"layer{stage}": f"layer{stage}" for stage in (1, 2, 3, 4)}
STAGES = {"stem": "act1", **LAYERS, "logits": "fc"}


def _count_stages(num_classes: int | None, source: Source) -> int:
    """Number of stages; without a classifier, of those that timm's `features_only` has left."""
    found = [s for s in (1, 2, 3, 4) if source(f"params/layer{s}_block0/conv1/kernel")]
    return max(found) if found and num_classes is None else 4


def _timm_twin(name: str, output_stride: int, num_classes: int | None, source: Source) -> Any:
    model = timm_network(name, num_classes, output_stride=output_stride)
    for stage in range(_count_stages(num_classes, source) + 1, 5):
        setattr(model, f"layer{stage}", import_optional("torch", "verify a network").nn.Identity())
    return model


def _resnet(name: str, depth: int, naming: Naming, **settings: Any) -> Network:
    def build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
        return ResNet(
            depth,
            output_stride=output_stride,
            stages=_count_stages(num_classes, source),
            num_classes=num_classes,
            **settings,
        )

    twin = Twin(partial(_timm_twin, name), STAGES)
    return Network(name, (naming,), 32, "params/fc/bias", build, twin=twin)


def _is_wide(source: Source) -> bool:
    """Whether the last convolution of a deep stem has 128 channels, not 64."""
    scale = source("params/bn3/scale")
    return scale is not None and scale[:1] == (128,)


def _deep_resnet(depth: int) -> Network:
    def build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
        stem = "deep" if _is_wide(source) else "v1c"
        return ResNet(
            depth,
            output_stride=output_stride,
            stem=stem,
            stages=_count_stages(num_classes, source),
            num_classes=num_classes,
        )

    def twin(output_stride: int, num_classes: int | None, source: Source) -> Any:
        name = f"resnet{depth}{'s' if _is_wide(source) else 'c'}"
        return _timm_twin(name, output_stride, num_classes, source)

    return Network(
        f"resnet{depth}_v1c",
        (NUMBERED, MMSEGMENTATION, TIMM),
        32,
        "params/fc/bias",
        build,
        twin=Twin(twin, STAGES, TIMM),
    )


NETWORKS = (
    *(_resnet(f"resnet{depth}", depth, TORCHVISION) for depth in BLOCKS),
    _deep_resnet(50),
    _deep_resnet(101),
    *(
        _resnet(name, depth, TIMM_D, stem=STEM_D, mean_shortcut=True)
        for name, depth in VARIANTS_D.items()
    ),
)
