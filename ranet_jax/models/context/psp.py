"""Pyramid pooling of PSPNet (Zhao et al., 2017)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ConvBN, Dtype
from ranet_jax.models.outputs import ContextOutput

BINS = (1, 2, 3, 6)


class PSPContext(nn.Module):
    """Means of one stage over grids of 1, 2, 3 and 6 cells a side, beside the stage itself.

    A 1 x 1 convolution makes a quarter of the stage's channels of each grid, which is resized to
    the stage; a 3 x 3 convolution fuses them all with the stage.
    """

    stage: str
    channels: int = 512
    align_corners: bool = True
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        stage = features[self.stage]
        shape, width = (stage.shape[1], stage.shape[2]), max(1, stage.shape[3] // len(BINS))
        levels = [stage]
        for bins in BINS:
            means = ops.adaptive_average_pool(stage, bins)
            reduced = ConvBN(width, 1, name=f"pool{bins}", **shared)(means, train)
            levels.append(ops.resize_bilinear(reduced, shape, self.align_corners))
        fuse = ConvBN(self.channels, name="fuse", **shared)
        return ContextOutput(fuse(jnp.concatenate(levels, axis=-1), train))


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return PSPContext(stages.last, align_corners=model.align_corners, **shared)


BLOCK = ContextBlock("psp", _build)
