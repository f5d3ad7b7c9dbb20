"""The head of a fully convolutional network (Long et al., 2015) as torchvision builds it."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.context.block import ContextBlock, on_last_stage
from ranet_jax.models.layers import ConvBN, Dtype
from ranet_jax.models.outputs import ContextOutput


class FCNContext(nn.Module):
    """One 3 x 3 convolution on one stage, and no context."""

    stage: str
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        reduce = ConvBN(self.channels, dtype=self.dtype, axis_name=self.axis_name, name="reduce")
        return ContextOutput(reduce(features[self.stage], train))


BLOCK = ContextBlock("fcn", on_last_stage(FCNContext))
