"""MobileNetV3-Large (Howard et al., 2019) with dilation in place of stride, as in torchvision.

A sequence of blocks whose stride would exceed the output stride keeps its resolution, and all of
its blocks are dilated by that stride, including the first one. torchvision builds its segmenters
this way, at output stride 16. The BatchNorms have an epsilon of 0.001 and slow averages.
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

# Sequences of blocks, each with its stride and, for every block, the kernel size, expanded
# channels, channels, squeezed channels (0: no excitation) and whether the activation is hard swish.
STAGES: tuple[tuple[int, tuple[tuple[int, int, int, int, bool], ...]], ...] = (
    (1, ((3, 16, 16, 0, False),)),
    (2, ((3, 64, 24, 0, False), (3, 72, 24, 0, False))),
    (2, ((5, 72, 40, 24, False), (5, 120, 40, 32, False), (5, 120, 40, 32, False))),
    (
        2,
        (
            (3, 240, 80, 0, True),
            (3, 200, 80, 0, True),
            (3, 184, 80, 0, True),
            (3, 184, 80, 0, True),
        ),
    ),
    (1, ((3, 480, 112, 120, True), (3, 672, 112, 168, True))),
    (2, ((5, 672, 160, 168, True), (5, 960, 160, 240, True), (5, 960, 160, 240, True))),
)
OUTPUT_STRIDES = (8, 16, 32)
EPSILON, MOMENTUM = 1e-3, 0.99  # of the BatchNorms


class MobileNetV3(nn.Module):
    """MobileNetV3-Large of width 1 that returns the output of every sequence of blocks by name.

    Attributes:
      output_stride: input pixels per pixel of the last sequence: 8, 16 or 32.
      num_classes: categories of the classifier of whole images; None for no classifier.
    """

    output_stride: int = 32
    num_classes: int | None = None
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    def __post_init__(self) -> None:
        check_output_stride("MobileNetV3", self.output_stride, OUTPUT_STRIDES)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "b H W 3"], train: bool = False
    ) -> dict[str, Float[Array, "b ..."]]:
        """Features of normalised images: "stem" (stride 2), "stage1" to "stage6", "head".

        "stage3_first" (stride 8) is the first block of "stage3", which torchvision's segmenters
        read in addition to "head". A classifier adds its scores as "logits" [b, num_classes]; in
        training it needs the random number generator "dropout".
        """
        conv_bn = partial(
            ConvBN,
            activation=nn.hard_swish,
            epsilon=EPSILON,
            momentum=MOMENTUM,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        x = conv_bn(16, 3, stride=2, name="stem")(images.astype(self.dtype), train)
        features = {"stem": x}
        stride_so_far, dilation, index = 2, 1, 0
        for stage, (stride, blocks) in enumerate(STAGES, 1):
            if stride_so_far * stride > self.output_stride:
                dilation, stride = dilation * stride, 1
            stride_so_far *= stride
            for number, (size, expanded, width, squeezed, hard_swish) in enumerate(blocks):
                index += 1
                x = InvertedResidual(
                    width,
                    expanded,
                    nn.hard_swish if hard_swish else nn.relu,
                    kernel_size=size,
                    squeezed=squeezed,
                    stride=stride if number == 0 else 1,
                    dilation=dilation,
                    epsilon=EPSILON,
                    momentum=MOMENTUM,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"block{index}",
                )(x, train)
                if stage == 3 and number == 0:
                    features["stage3_first"] = x
            features[f"stage{stage}"] = x
        features["head"] = conv_bn(960, 1, name="head")(x, train)
        if self.num_classes is not None:
            dense = partial(nn.Dense, dtype=self.dtype)
            mean = jnp.mean(features["head"], axis=(1, 2))
            hidden = nn.hard_swish(dense(1280, name="hidden")(mean))[:, None, None]
            hidden = ChannelDropout(0.2, axis_name=self.axis_name)(hidden, train)
            features["logits"] = dense(self.num_classes, name="classifier")(hidden[:, 0, 0])
        return features


def _build(model: ConfigDict, **settings: Any) -> nn.Module:
    return MobileNetV3(output_stride=model.output_stride, **settings)


PYRAMID = ("stage1", "stage2", "stage3", "stage5", "head")
FAMILY = BackboneFamily(
    ("mobilenetv3_large",),
    _build,
    lambda model: Stages("head", "stage3_first", "stage2", PYRAMID),
)
