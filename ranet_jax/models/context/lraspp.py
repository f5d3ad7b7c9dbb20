"""The head of MobileNetV3's segmenter, LR-ASPP (Howard et al., 2019), as torchvision builds it."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops import resize_bilinear


class LRASPPContext(nn.Module):
    """A 1 x 1 convolution on one stage, with channels scaled by a function of the image mean.

    The result is resized to the `earlier` stage, which is classified as well.
    """

    stage: str
    earlier: str
    channels: int = 128
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the size of the earlier stage, and the earlier stage."""
        last, earlier = features[self.stage], features[self.earlier]
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        reduced = ConvBN(self.channels, 1, name="reduce", **shared)(last, train)
        mean = jnp.mean(last, axis=(1, 2), keepdims=True)
        scale = nn.sigmoid(conv(self.channels, 1, dtype=self.dtype, name="scale")(mean))
        shape = earlier.shape[1], earlier.shape[2]
        scaled = resize_bilinear(reduced * scale, shape, align_corners=False)
        return ContextOutput(scaled, skipped=earlier)


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return LRASPPContext(stages.last, stages.earlier or stages.last, **shared)


BLOCK = ContextBlock("lraspp", _build)
