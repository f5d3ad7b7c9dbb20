"""Pyramid pooling of PSPNet (Zhao et al., 2017)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput

BINS = (1, 2, 3, 6)


class PSPContext(nn.Module):
    """Means of one stage over grids of 1, 2, 3 and 6 cells per side, fused with the stage itself.

    A 1 x 1 convolution reduces each grid to a quarter of the stage's channels, and the result is
    resized to the stage; a 3 x 3 convolution fuses all of them with the stage.

    The `light` form is that of segmentation_models.pytorch: the last convolution is 1 x 1, the
    stage comes last, and the mean of the whole image has a bias in place of BatchNorm.
    """

    stage: str
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    align_corners: bool = True
    light: bool = False

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        stage = features[self.stage]
        shape, width = (stage.shape[1], stage.shape[2]), max(1, stage.shape[3] // len(BINS))
        levels = []
        for bins in BINS:
            means = ops.adaptive_average_pool(stage, bins)
            if self.light and bins == 1:
                biased = conv(width, 1, use_bias=True, dtype=self.dtype, name="pool1")
                reduced = nn.relu(biased(means))
            else:
                reduced = ConvBN(width, 1, name=f"pool{bins}", **shared)(means, train)
            levels.append(ops.resize_bilinear(reduced, shape, self.align_corners))
        levels = [*levels, stage] if self.light else [stage, *levels]
        fuse = ConvBN(self.channels, 1 if self.light else 3, name="fuse", **shared)
        return ContextOutput(fuse(jnp.concatenate(levels, axis=-1), train))


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    settings = {"align_corners": model.align_corners, "light": model.variant == VARIANT}
    return PSPContext(stages.last, **settings, **shared)


VARIANT = "segmentation_models"
BLOCK = ContextBlock("psp", _build)
LIGHT = ContextBlock("psp", _build, variant=VARIANT, classifier_size=3)
