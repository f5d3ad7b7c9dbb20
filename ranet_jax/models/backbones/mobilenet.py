"""MobileNetV2 (Sandler et al., 2018) with dilation in place of stride, torchvision's numbering.

A sequence whose stride would pass the output stride keeps its resolution; every depthwise
convolution behind the stride left out is dilated by it. The stride-16 features subsampled by 2
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

# Of each sequence of blocks: expansion, channels, blocks and stride (the paper's t, c, n and s).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
OUTPUT_STRIDES = (8, 16, 32)


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1 that returns the output of every sequence of blocks by name.

    Attributes:
      output_stride: input pixels a pixel of the last sequence: 8, 16 or 32.
      num_classes: categories of the classifier of whole images; None for no classifier.
    """

    output_stride: int = 32
    num_classes: int | None = None
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    def __post_init__(self) -> None:
        check_output_stride("MobileNetV2", self.output_stride, OUTPUT_STRIDES)
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
        for stage, (expansion, width, blocks, stride) in enumerate(STAGES, 1):
            first_dilation = dilation
            if stride_so_far * stride > self.output_stride:
                dilation, stride = dilation * stride, 1
            stride_so_far *= stride
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
        features["head"] = conv_bn(1280, 1, name="head")(x, train)
        if self.num_classes is not None:
            mean = jnp.mean(features["head"], axis=(1, 2), keepdims=True)
            mean = ChannelDropout(0.2, axis_name=self.axis_name)(mean, train)
            dense = nn.Dense(self.num_classes, dtype=self.dtype, name="classifier")
            features["logits"] = dense(mean[:, 0, 0])
        return features


def _build(model: ConfigDict, **settings: Any) -> nn.Module:
    return MobileNetV2(output_stride=model.output_stride, **settings)


FAMILY = BackboneFamily(
    ("mobilenetv2",), _build, lambda model: Stages("stage7", "stage5", "stage2")
)
