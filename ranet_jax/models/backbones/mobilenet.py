"""MobileNetV2 (Sandler et al., 2018) with dilation in place of stride, numbered as in torchvision.

A sequence whose stride would exceed the output stride keeps its resolution; every depthwise
convolution after the omitted stride is dilated by it. The stride-16 features subsampled by 2
are then exactly the stride-32 features of the same weights.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones.family import BackboneFamily, Stages, check_output_stride
from ranet_jax.models.backbones.inverted_residual import InvertedResidual
from ranet_jax.models.layers import ChannelDropout, ConvBN, Dtype

# For each sequence of blocks: expansion, channels, blocks, stride (the paper's t, c, n and s).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# One feature of each resolution, and the number of sequences up to it.
PYRAMID = {"stage1": 1, "stage2": 2, "stage3": 3, "stage5": 5, "head": 7}
OUTPUT_STRIDES = (8, 16, 32)


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1 that returns the output of every sequence of blocks by name.

    Attributes:
      output_stride: input pixels per pixel of the last sequence: 8, 16 or 32.
      stages: how much of the network is built: 1 up to the sequences of stride 4, 2 up to stride 8,
        3 up to stride 16, 4 all of it.
      dilate_first_block: dilate a dilated sequence's first block like its others; by default that
        block keeps the dilation of the sequence before.
      num_classes: categories of the classifier of whole images; None for no classifier.
    """

    output_stride: int = 32
    num_classes: int | None = None
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    stages: int = 4
    dilate_first_block: bool = False

    def __post_init__(self) -> None:
        check_output_stride("MobileNetV2", self.output_stride, OUTPUT_STRIDES)
        if self.stages not in range(1, len(PYRAMID)):
            raise ValueError(f"MobileNetV2's stages is {self.stages!r}; choose one of 1, 2, 3, 4.")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "b H W 3"], train: bool = False
    ) -> dict[str, Float[Array, "b ..."]]:
        """Features of normalised images: "stem" (stride 2), "stage1" to "stage7", "head".

        A classifier adds its scores as "logits" [b, num_classes]; in training it needs the
        random number generator "dropout".
        """
        conv_bn = partial(ConvBN, activation=nn.relu6, dtype=self.dtype, axis_name=self.axis_name)
        x = conv_bn(32, 3, stride=2, name="stem")(images.astype(self.dtype), train)
        features = {"stem": x}
        stride_so_far, dilation, index = 2, 1, 0
        sequences = tuple(PYRAMID.values())[self.stages]
        for stage, (expansion, width, blocks, stride) in enumerate(STAGES[:sequences], 1):
            first_dilation = dilation
            if stride_so_far * stride > self.output_stride:
                dilation, stride = dilation * stride, 1
            stride_so_far *= stride
            if self.dilate_first_block:
                first_dilation = dilation
            for block in range(blocks):
                index += 1
                x = InvertedResidual(
                    width,
                    expansion * x.shape[-1],
                    nn.relu6,
                    stride=stride if block == 0 else 1,
                    dilation=first_dilation if block == 0 else dilation,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"block{index}",
                )(x, train)
            features[f"stage{stage}"] = x
        if self.stages == 4:
            x = features["head"] = conv_bn(1280, 1, name="head")(x, train)
        if self.num_classes is not None:
            mean = jnp.mean(x, axis=(1, 2), keepdims=True)
            mean = ChannelDropout(0.2, axis_name=self.axis_name)(mean, train)
            dense = nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")
            features["logits"] = dense(mean[:, 0, 0])
        return features


def _build(model: ConfigDict, **settings: Any) -> nn.Module:
    settings = {"dilate_first_block": model.dilate_first_block} | settings
    return MobileNetV2(model.output_stride, stages=model.stages, **settings)


def _stages(model: ConfigDict) -> Stages:
    *before, last = tuple(PYRAMID)[: model.stages + 1]
    earlier = before[-1] if model.stages > 1 else ""
    if model.read_head and last != "head":
        raise ValueError("read_head is True, but the last convolution exists only with stages = 4.")
    read = "stage7" if last == "head" and not model.read_head else last
    return Stages(read, earlier, "stage2", (*before, last))


FAMILY = BackboneFamily(
    ("mobilenetv2",),
    _build,
    _stages,
    settings={"stages": 4, "dilate_first_block": False, "read_head": False},
)
