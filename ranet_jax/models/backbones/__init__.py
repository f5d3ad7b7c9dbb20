"""Backbones by name; a new family adds a file here and its names to `build_backbone`."""

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.models.backbones.resnet import BLOCKS, ResNet
from ranet_jax.models.layers import Dtype

__all__ = ["ResNet", "build_backbone"]

RESNETS = {f"resnet{depth}": depth for depth in BLOCKS}


def build_backbone(model: ConfigDict, dtype: Dtype, axis_name: str | None) -> nn.Module:
    """The backbone that the `model` section of a config names.

    Raises:
      ValueError: the name or one of its settings is no choice.
    """
    if model.backbone not in RESNETS:
        raise ValueError(f"backbone is {model.backbone!r}; choose one of {tuple(RESNETS)}.")
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
