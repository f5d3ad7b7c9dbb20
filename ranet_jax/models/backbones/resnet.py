"""ResNet (He et al., 2016) with dilation in place of stride, and torchvision's layer names.

A stage whose stride would exceed the output stride keeps its resolution; every convolution after
the omitted stride is dilated by it. The stride-8 features subsampled by 2 are then exactly the
stride-16 features of the same weights.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones.family import BackboneFamily, Stages
from ranet_jax.models.layers import Dtype, batch_norm, conv
from ranet_jax.models.pooling import max_pool, mean_pool

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Convolutions of a stem: kernel size, and widths as multiples of the first stage's channels.
STEMS = {"conv7": (7, (1,)), "deep": (3, (1, 1, 2)), "v1c": (3, (0.5, 0.5, 1))}
OUTPUT_STRIDES = (4, 8, 16, 32)


class Residual(nn.Module):
    """A residual block: two 3 x 3 convolutions, or with `bottleneck` 1 x 1, 3 x 3, 1 x 1.

    The first 3 x 3 convolution has the stride and `first_dilation`. A second one has `dilation`, or
    no dilation without `dilate_second`. With `mean_shortcut`, the shortcut averages 2 x 2 pixels if
    the block has a stride, or a dilation in place of a stride.
    """

    features: int
    bottleneck: bool
    stride: int = 1
    first_dilation: int = 1
    dilation: int = 1
    project: bool = False
    mean_shortcut: bool = False
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    dilate_second: bool = True

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h2 w2 m"]:
        """Features of the block, smaller by its stride."""

        def conv_bn(x: Array, features: int, kernel: int, suffix: str, **kwargs: Any) -> Array:
            x = conv(features, kernel, dtype=self.dtype, name=f"conv{suffix}", **kwargs)(x)
            return batch_norm(
                train, dtype=self.dtype, axis_name=self.axis_name, name=f"bn{suffix}"
            )(x)

        strided = {"stride": self.stride, "dilation": self.first_dilation}
        if self.bottleneck:
            width_out = 4 * self.features
            outputs = nn.relu(conv_bn(inputs, self.features, 1, "1"))
            outputs = nn.relu(conv_bn(outputs, self.features, 3, "2", **strided))
            outputs = conv_bn(outputs, width_out, 1, "3")
        else:
            width_out = self.features
            outputs = nn.relu(conv_bn(inputs, self.features, 3, "1", **strided))
            second = self.dilation if self.dilate_second else 1
            outputs = conv_bn(outputs, self.features, 3, "2", dilation=second)
        shortcut, stride = inputs, self.stride
        if self.project:
            if self.mean_shortcut and (stride > 1 or self.dilation > 1):
                shortcut, stride = mean_pool(inputs, stride), 1
            shortcut = conv_bn(shortcut, width_out, 1, "_shortcut", stride=stride)
        return nn.relu(outputs + shortcut)


class ResNet(nn.Module):
    """ResNet-18, 34, 50 or 101 that returns the output of every stage by name.

    Attributes:
      depth: 18, 34, 50 or 101.
      output_stride: input pixels per pixel of the last stage: 4, 8, 16 or 32.
      stem: "conv7" (one 7 x 7 convolution), or three 3 x 3 convolutions: "deep" (with 64, 64 and
        128 channels if the first stage has 64) or "v1c" (32, 32 and 64).
      stages: number of residual stages that are built, 1 to 4.
      width: channels of the first stage (64 in the published networks).
      multi_grid: factors on the dilation of the fourth stage's blocks, in turn.
      dilate_first_block: dilate a dilated stage's first block like its others; by default that
        block keeps the dilation of the stage before, as in torchvision.
      dilate_second: dilate both convolutions of a basic block (of ResNet-18 and 34) in a dilated
        stage; otherwise only the first, as in mmsegmentation.
      ceil_pool: max-pool the last odd row and column too (PyTorch's `ceil_mode`).
      mean_shortcut: average in the shortcut of a stage's first block (ResNet-D, He et al., 2019).
      num_classes: categories of the classifier of whole images; None for no classifier.
    """

    depth: int
    output_stride: int = 32
    stem: str = "conv7"
    stages: int = 4
    width: int = 64
    multi_grid: tuple[int, ...] = (1,)
    dilate_first_block: bool = False
    ceil_pool: bool = False
    mean_shortcut: bool = False
    num_classes: int | None = None
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    dilate_second: bool = True

    def __post_init__(self) -> None:
        for name, choices in (
            ("depth", tuple(BLOCKS)),
            ("output_stride", OUTPUT_STRIDES),
            ("stem", tuple(STEMS)),
            ("stages", (1, 2, 3, 4)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"ResNet's {name} is {getattr(self, name)!r}; choose one of {choices}."
                )
        super().__post_init__()

    def _stem(self, images: Array, train: bool) -> Array:
        kernel, widths = STEMS[self.stem]
        x = images.astype(self.dtype)
        for index, factor in enumerate(widths):
            stride, width = (2 if index == 0 else 1), int(self.width * factor)
            x = conv(width, kernel, stride=stride, dtype=self.dtype, name=f"conv{index + 1}")(x)
            x = batch_norm(
                train, dtype=self.dtype, axis_name=self.axis_name, name=f"bn{index + 1}"
            )(x)
            x = nn.relu(x)
        return x

    @nn.compact
    def __call__(
        self, images: Float[Array, "b H W 3"], train: bool = False
    ) -> dict[str, Float[Array, "b ..."]]:
        """Features of normalised images by stage: "stem" (stride 2), "layer1" to "layer4".

        A classifier adds its scores as "logits" [b, num_classes].
        """
        x = self._stem(images, train)
        features = {"stem": x}
        pad = (1, 2) if self.ceil_pool else (1, 1)
        x = max_pool(x, (pad, pad))
        bottleneck = self.depth >= 50
        expansion = 4 if bottleneck else 1
        stride_so_far, dilation = 4, 1
        for stage in range(self.stages):
            features_out = self.width * 2**stage
            stride, first_dilation = (1 if stage == 0 else 2), dilation
            if stride_so_far * stride > self.output_stride:
                dilation, stride = dilation * stride, 1
            stride_so_far *= stride
            if self.dilate_first_block:
                first_dilation = dilation
            for block in range(BLOCKS[self.depth][stage]):
                grid = self.multi_grid[block % len(self.multi_grid)] if stage == 3 else 1
                first = block == 0
                x = Residual(
                    features_out,
                    bottleneck,
                    stride=stride if first else 1,
                    first_dilation=grid * (first_dilation if first else dilation),
                    dilation=grid * dilation,
                    dilate_second=self.dilate_second,
                    project=first and (stage > 0 or x.shape[-1] != features_out * expansion),
                    mean_shortcut=self.mean_shortcut,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"layer{stage + 1}_block{block}",
                )(x, train)
            features[f"layer{stage + 1}"] = x
        if self.num_classes is not None:
            mean = jnp.mean(x, axis=(1, 2))
            features["logits"] = nn.Dense(self.num_classes, dtype=self.dtype, name="fc")(mean)
        return features


def _build(model: ConfigDict, **settings: Any) -> nn.Module:
    if model.backbone in VARIANTS_D:
        if model.stem != "conv7":
            raise ValueError(
                f"stem is {model.stem!r}, but {model.backbone} has a fixed stem; leave stem at"
                " 'conv7'."
            )
        settings |= {"mean_shortcut": True}
    settings = {"dilate_first_block": model.dilate_first_block} | settings
    return ResNet(
        depth=DEPTHS[model.backbone],
        output_stride=model.output_stride,
        stem=STEM_D if model.backbone in VARIANTS_D else model.stem,
        stages=model.stages,
        width=model.width,
        dilate_second=model.dilate_second,
        **settings,
    )


def _stages(model: ConfigDict) -> Stages:
    layers = [f"layer{stage}" for stage in range(1, model.stages + 1)]
    earlier = layers[-2] if model.stages > 1 else ""
    return Stages(layers[-1], earlier, "layer1", ("stem", *layers))


# Networks with the stem and the shortcuts of ResNet-D.
VARIANTS_D = {"resnet50d": 50, "resnet101d": 101}
STEM_D = "v1c"
DEPTHS = {f"resnet{depth}": depth for depth in BLOCKS} | VARIANTS_D
FAMILY = BackboneFamily(
    names=tuple(DEPTHS),
    build=_build,
    stages=_stages,
    settings={
        "stem": "conv7",
        "stages": 4,
        "width": 64,
        "dilate_first_block": False,
        "dilate_second": True,
    },
)
