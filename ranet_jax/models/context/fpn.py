"""The head of panoptic feature pyramids (Kirillov et al., 2019), called FPN in other libraries."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import Dtype, conv, resize_nearest
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops import resize_bilinear

LEVELS, GROUPS = 4, 32


class ConvGN(nn.Module):
    """3 x 3 convolution, GroupNorm and ReLU.

    The number of groups is the greatest common divisor of 32 and the number of features.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "b h w c"]) -> Float[Array, "b h w m"]:
        """Features of the same size."""
        outputs = conv(self.features, 3, dtype=self.dtype, name="conv")(inputs)
        norm = nn.GroupNorm(
            math.gcd(GROUPS, self.features),
            epsilon=1e-5,
            dtype=self.dtype,
            use_fast_variance=False,
            name="gn",
        )
        return nn.relu(norm(outputs))


class FPNContext(nn.Module):
    """A feature pyramid with twice the channels, where each level adds the next coarser level.

    Each level then gets one 3 x 3 convolution for every finer level, or one if there is none, each
    followed by resizing to the size of the next finer level. The sum of all levels has the size of
    the pyramid's first stage.
    """

    pyramid: tuple[str, ...]
    channels: int = 128
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the size of the pyramid's first stage."""
        stages = [features[name] for name in reversed(self.pyramid)]
        shapes = [(stage.shape[1], stage.shape[2]) for stage in stages]
        levels: list[Array] = []
        for number, stage in enumerate(stages):
            lateral = conv(
                2 * self.channels, 1, use_bias=True, dtype=self.dtype, name=f"lateral{number}"
            )
            level = lateral(stage)
            if levels:
                level += resize_nearest(levels[-1], shapes[number])
            levels.append(level)
        smoothed = []
        for number, x in enumerate(levels):
            for index, shape in enumerate(shapes[number + 1 :] or shapes[number:]):
                x = ConvGN(self.channels, self.dtype, name=f"smooth{number}_{index}")(x)
                x = resize_bilinear(x, shape)
            smoothed.append(x)
        return ContextOutput(sum(smoothed[1:], smoothed[0]))


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return FPNContext(stages.pyramid[-LEVELS:], **shared)


BLOCK = ContextBlock("fpn", _build)
