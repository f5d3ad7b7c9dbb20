"""No context: the baseline that the other blocks are measured against."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.context.block import ContextBlock, on_last_stage
from ranet_jax.models.layers import ConvBN, Dtype
from ranet_jax.models.outputs import ContextOutput


class PlainContext(nn.Module):
    """Two 3 x 3 convolutions on one stage: RANet's head without its two blocks."""

    stage: str
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        visual = ConvBN(self.channels, name="reduce", **shared)(features[self.stage], train)
        return ContextOutput(ConvBN(self.channels, name="fuse", **shared)(visual, train))


BLOCK = ContextBlock("none", on_last_stage(PlainContext))
