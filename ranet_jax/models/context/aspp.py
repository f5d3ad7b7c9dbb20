"""Atrous spatial pyramid pooling and the head of DeepLabV3 (Chen et al., 2017)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ChannelDropout, ConvBN, Dtype
from ranet_jax.models.outputs import ContextOutput


class ASPP(nn.Module):
    """In parallel a 1 x 1 convolution, a 3 x 3 one of each dilation, and the mean of the image.

    A last 1 x 1 convolution fuses them.
    """

    rates: tuple[int, ...]
    channels: int = 256
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w m"]:
        """Features of the same size."""
        conv = partial(ConvBN, self.channels, dtype=self.dtype, axis_name=self.axis_name)
        branches = [conv(1, name="branch0")(inputs, train)]
        for index, rate in enumerate(self.rates, 1):
            branches.append(conv(3, dilation=rate, name=f"branch{index}")(inputs, train))
        pooled = conv(1, name="pool")(jnp.mean(inputs, axis=(1, 2), keepdims=True), train)
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        return conv(1, name="project")(jnp.concatenate(branches, axis=-1), train)


class ASPPContext(nn.Module):
    """The head of DeepLabV3 up to its classifier: ASPP, dropout and a 3 x 3 convolution."""

    stage: str
    rates: tuple[int, ...] = (12, 24, 36)
    channels: int = 256
    dropout: float = 0.5
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        context = ASPP(self.rates, self.channels, name="aspp", **shared)(
            features[self.stage], train
        )
        context = ChannelDropout(self.dropout, self.axis_name)(context, train)
        return ContextOutput(ConvBN(self.channels, name="fuse", **shared)(context, train))


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    if not model.aspp_rates:
        raise ValueError('context "aspp" needs aspp_rates, such as (12, 24, 36).')
    return ASPPContext(stages.last, tuple(model.aspp_rates), **shared)


BLOCK = ContextBlock("aspp", _build, has_aspp=True)
