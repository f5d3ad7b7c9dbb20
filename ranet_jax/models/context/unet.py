"""The decoder of U-Net (Ronneberger et al., 2015) as segmentation_models.pytorch builds it."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ConvBN, Dtype, resize_nearest
from ranet_jax.models.outputs import ContextOutput


class UNetContext(nn.Module):
    """Starting from the last stage of a pyramid, resize to the stage before it and concatenate.

    Two 3 x 3 convolutions follow every step, and a last step resizes to the size of the images. The
    first step has `channels` channels, every further step half as many as the one before it.
    """

    pyramid: tuple[str, ...]
    channels: int = 256
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, H, W, channels / 2^(stages - 1)] of the images' size."""
        *others, x = (features[name] for name in self.pyramid)
        for step, level in enumerate((*reversed(others), features["image"])):
            x = resize_nearest(x, (level.shape[1], level.shape[2]))
            if step < len(others):
                x = jnp.concatenate([x, level], axis=-1)
            for index in (1, 2):
                x = ConvBN(
                    self.channels // 2**step,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"step{step}_conv{index}",
                )(x, train)
        return ContextOutput(x)


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return UNetContext(stages.pyramid, **shared)


# With at most five stages, the channels are halved four times.
BLOCK = ContextBlock("unet", _build, min_channels=16, classifier_size=3)
