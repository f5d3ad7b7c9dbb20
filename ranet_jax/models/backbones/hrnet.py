"""HRNetV2 (Wang et al., 2019): branches of up to four resolutions that keep exchanging features.

Branch b has 2^b times the channels of branch 0, and a stride of 4 * 2^b input pixels.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones.family import BackboneFamily, Stages
from ranet_jax.models.backbones.resnet import Residual
from ranet_jax.models.layers import ConvBN, Dtype, batch_norm, conv, resize_nearest
from ranet_jax.ops.resize import resize_bilinear

# Number of modules in each stage; stage n has n branches.
MODULES = {2: 1, 3: 4, 4: 3}
# Number of residual blocks in layer1, and in each branch of a module.
BLOCKS = 4
# Widths of the classifier's bottlenecks, which have four times as many channels.
HEAD_WIDTHS = (32, 64, 128, 256)


def resize_twice(
    x: Float[Array, "b h w c"], shape: tuple[int, int], factor: int
) -> Float[Array, "b H W c"]:
    """Resize maps bilinearly by a whole factor, and then to the shape if it differs."""
    _, height, width, _ = x.shape
    x = resize_bilinear(x, (factor * height, factor * width), align_corners=False)
    return resize_bilinear(x, shape, align_corners=False)


# Functions of maps, the shape to resize them to, and the approximate factor between their sizes.
FUSIONS = {"nearest": lambda x, shape, factor: resize_nearest(x, shape), "bilinear": resize_twice}


class HRNet(nn.Module):
    """HRNetV2, W48 by default, that returns the output of every stage by name.

    Attributes:
      width: channels of the branch of the highest resolution: 18, 32 and 48 are published.
      fusion: how branches are enlarged to the size of another: "nearest", as for ImageNet, or
        "bilinear", as in mmsegmentation.
      align_corners: resize the four branches that "features" holds with aligned corners.
      num_classes: categories of the classifier of whole images; None for no classifier.
    """

    width: int = 48
    num_classes: int | None = None
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    fusion: str = "nearest"
    align_corners: bool = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"HRNet's width is {self.width!r}; it must be positive.")
        if self.fusion not in FUSIONS:
            raise ValueError(f"HRNet's fusion is {self.fusion!r}; choose one of {tuple(FUSIONS)}.")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "b H W 3"], train: bool = False
    ) -> dict[str, Float[Array, "b ..."]]:
        """Features of normalised images by stage, with stride 4 unless stated otherwise.

        "stem" and "layer1" come before the branches. "stage2" to "stage4" are the branches of
        stride 4 of these stages. "stage4_branch1" to "stage4_branch3" are the other branches of the
        last stage, with strides 8, 16 and 32. "features" [b, h, w, 15 * width] holds all four
        branches of the last stage, each resized bilinearly to stride 4.
        A classifier adds its scores as "logits" [b, num_classes].
        """
        x = images.astype(self.dtype)
        for index in (1, 2):
            x = conv(64, 3, stride=2, dtype=self.dtype, name=f"conv{index}")(x)
            x = batch_norm(train, dtype=self.dtype, axis_name=self.axis_name, name=f"bn{index}")(x)
            x = nn.relu(x)
        features = {"stem": x}
        for block in range(BLOCKS):
            x = self._residual(64, True, project=block == 0, name=f"layer1_block{block}")(x, train)
        features["layer1"] = x
        branches = [x]
        for stage, modules in MODULES.items():
            branches = self._transition(branches, f"transition{stage - 1}", train)
            for module in range(modules):
                branches = self._exchange(branches, f"stage{stage}_module{module}", train)
            features[f"stage{stage}"] = branches[0]
        features |= {f"stage4_branch{b}": branches[b] for b in range(1, len(branches))}
        _, height, width, _ = branches[0].shape
        resized = [resize_bilinear(x, (height, width), self.align_corners) for x in branches]
        features["features"] = jnp.concatenate(resized, axis=-1)
        if self.num_classes is not None:
            features["logits"] = self._classify(branches, self.num_classes, train)
        return features

    def _conv_bn(self, features: int, kernel_size: int = 3, **kwargs: Any) -> ConvBN:
        settings = {"dtype": self.dtype, "axis_name": self.axis_name}
        return ConvBN(features, kernel_size, **settings, **kwargs)

    def _residual(self, features: int, bottleneck: bool, **kwargs: Any) -> Residual:
        settings = {"dtype": self.dtype, "axis_name": self.axis_name}
        return Residual(features, bottleneck, **settings, **kwargs)

    def _transition(self, branches: list[Array], name: str, train: bool) -> list[Array]:
        """Adjust the channels of each branch, and add a new branch of half the resolution."""
        outputs = []
        for b, x in enumerate(branches):
            width = self.width * 2**b
            if x.shape[-1] != width:
                x = self._conv_bn(width, name=f"{name}_branch{b}")(x, train)
            outputs.append(x)
        new = len(branches)
        down = self._conv_bn(self.width * 2**new, stride=2, name=f"{name}_branch{new}_down0")
        return [*outputs, down(branches[-1], train)]

    def _exchange(self, branches: list[Array], name: str, train: bool) -> list[Array]:
        """Apply residual blocks to each branch, then replace each branch by the sum of all."""
        inputs = []
        for b, x in enumerate(branches):
            for block in range(BLOCKS):
                residual = self._residual(
                    self.width * 2**b, False, name=f"{name}_branch{b}_block{block}"
                )
                x = residual(x, train)
            inputs.append(x)
        outputs = []
        for i, same in enumerate(inputs):
            _, height, width, channels = same.shape
            parts = []
            for j, x in enumerate(inputs):
                fuse = f"{name}_fuse{i}_{j}"
                if j > i:
                    up = self._conv_bn(channels, 1, activation=None, name=fuse)
                    x = FUSIONS[self.fusion](up(x, train), (height, width), 2 ** (j - i))
                for k in range(i - j):
                    last = k == i - j - 1
                    x = self._conv_bn(
                        channels if last else x.shape[-1],
                        stride=2,
                        activation=None if last else nn.relu,
                        name=f"{fuse}_down{k}",
                    )(x, train)
                parts.append(x)
            outputs.append(nn.relu(sum(parts[1:], parts[0])))
        return outputs

    def _classify(self, branches: list[Array], num_classes: int, train: bool) -> Array:
        """Compute scores of whole images; branches are added from the highest resolution down."""
        bottlenecks = []
        for i, (x, width) in enumerate(zip(branches, HEAD_WIDTHS, strict=True)):
            project = x.shape[-1] != 4 * width
            bottlenecks.append(
                self._residual(width, True, project=project, name=f"incre{i}")(x, train)
            )
        x = bottlenecks[0]
        for i, other in enumerate(bottlenecks[1:]):
            down = self._conv_bn(other.shape[-1], stride=2, use_bias=True, name=f"downsamp{i}")
            x = other + down(x, train)
        x = self._conv_bn(2048, 1, use_bias=True, name="final")(x, train)
        mean = jnp.mean(x, axis=(1, 2))
        return nn.Dense(num_classes, dtype=self.dtype, name="classifier")(mean)


def _build(model: ConfigDict, **settings: Any) -> nn.Module:
    if model.output_stride != 4:
        raise ValueError(f"output_stride is {model.output_stride}, but HRNetV2 supports only 4.")
    return HRNet(
        width=WIDTHS[model.backbone],
        fusion=model.fusion,
        align_corners=model.align_corners,
        **settings,
    )


WIDTHS = {"hrnetv2_w18": 18, "hrnetv2_w48": 48}
BRANCHES = ("stage4", "stage4_branch1", "stage4_branch2", "stage4_branch3")
# No earlier features are named, because "features" holds the branches of all resolutions.
FAMILY = BackboneFamily(
    tuple(WIDTHS),
    _build,
    lambda model: Stages("features", "", "layer1", BRANCHES),
    settings={"fusion": "nearest"},
)
