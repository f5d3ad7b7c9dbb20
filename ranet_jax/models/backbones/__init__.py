"""Backbones by name; a new family adds a file here and its names to the functions below."""

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.models.backbones.hrnet import HRNet
from ranet_jax.models.backbones.mobilenet import MobileNetV2
from ranet_jax.models.backbones.resnet import BLOCKS, ResNet
from ranet_jax.models.layers import Dtype

__all__ = ["HRNet", "MobileNetV2", "ResNet", "build_backbone", "earlier_stage", "last_stage"]

RESNETS = {f"resnet{depth}": depth for depth in BLOCKS}
BACKBONES = (*RESNETS, "hrnetv2_w48", "mobilenetv2")


def build_backbone(model: ConfigDict, dtype: Dtype, axis_name: str | None) -> nn.Module:
    """The backbone that the `model` section of a config names.

    Raises:
      ValueError: the name or one of its settings is no choice.
    """
    if model.backbone not in BACKBONES:
        raise ValueError(f"backbone is {model.backbone!r}; choose one of {BACKBONES}.")
    if model.backbone not in RESNETS and (model.stem, model.stages, model.width) != (
        "conv7",
        4,
        64,
    ):
        raise ValueError(
            f"stem, stages and width are settings of ResNets; {model.backbone} has none."
        )
    if model.backbone == "hrnetv2_w48":
        if model.output_stride != 4:
            raise ValueError(f"output_stride is {model.output_stride}; that of HRNetV2 is 4.")
        return HRNet(dtype=dtype, axis_name=axis_name)
    if model.backbone == "mobilenetv2":
        return MobileNetV2(output_stride=model.output_stride, dtype=dtype, axis_name=axis_name)
    released = model.context == "ranet" and model.variant == "released"
    return ResNet(
        depth=RESNETS[model.backbone],
        output_stride=model.output_stride,
        stem=model.stem,
        stages=model.stages,
        width=model.width,
        multi_grid=(4, 8, 16) if released else (1,),
        dilate_first_block=released,
        ceil_pool=released,
        dtype=dtype,
        axis_name=axis_name,
    )


def last_stage(model: ConfigDict) -> str:
    """Name of the features that context blocks see."""
    stages = {"hrnetv2_w48": "features", "mobilenetv2": "stage7"}
    return stages.get(model.backbone, f"layer{model.stages}")


def earlier_stage(model: ConfigDict) -> str:
    """Name of the features before the last; empty if there are none, or the last hold them all."""
    if model.backbone == "hrnetv2_w48" or model.stages == 1:
        return ""
    return "stage5" if model.backbone == "mobilenetv2" else f"layer{model.stages - 1}"
