"""The head of a fully convolutional network (Long et al., 2015), as two libraries build it."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.context.block import ContextBlock, on_last_stage
from ranet_jax.models.layers import ConvBN, Dtype
from ranet_jax.models.outputs import ContextOutput


class FCNContext(nn.Module):
    """One 3 x 3 convolution on one stage, without context, as in torchvision."""

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


class FusedFCNContext(nn.Module):
    """Two 3 x 3 convolutions on a stage and a third to fuse them with it, as in mmsegmentation."""

    stage: str
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        conv = partial(ConvBN, self.channels, dtype=self.dtype, axis_name=self.axis_name)
        stage = features[self.stage]
        refined = conv(name="refine")(conv(name="reduce")(stage, train), train)
        fused = conv(name="fuse")(jnp.concatenate([stage, refined], axis=-1), train)
        return ContextOutput(fused)


BLOCK = ContextBlock("fcn", on_last_stage(FCNContext))
FUSED = ContextBlock("fcn", on_last_stage(FusedFCNContext), variant="mmsegmentation")
