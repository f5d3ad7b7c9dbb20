"""Atrous spatial pyramid pooling and the head of DeepLabV3 (Chen et al., 2017)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ChannelDropout, ConvBN, Dtype, SeparableConvBN
from ranet_jax.models.outputs import ContextOutput


class ASPP(nn.Module):
    """A 1 x 1 convolution, a 3 x 3 one for each dilation, and the image mean, in parallel.

    A last convolution, 1 x 1 by default, fuses them. With `separable`, the dilated convolutions are
    depthwise and followed by 1 x 1 convolutions; with `linear`, there is no BatchNorm or ReLU
    between the two.
    """

    rates: tuple[int, ...]
    channels: int = 256
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    kernel_size: int = 1
    separable: bool = False
    linear: bool = False

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w m"]:
        """Features of the same size."""
        conv = partial(ConvBN, self.channels, dtype=self.dtype, axis_name=self.axis_name)
        dilated: Callable[..., nn.Module] = conv
        if self.separable:
            dilated = partial(
                SeparableConvBN,
                self.channels,
                linear=self.linear,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )
        branches = [conv(1, name="branch0")(inputs, train)]
        for index, rate in enumerate(self.rates, 1):
            branches.append(dilated(3, dilation=rate, name=f"branch{index}")(inputs, train))
        pooled = conv(1, name="pool")(jnp.mean(inputs, axis=(1, 2), keepdims=True), train)
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        fuse = conv(self.kernel_size, name="project")
        return fuse(jnp.concatenate(branches, axis=-1), train)


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


class ShortASPPContext(nn.Module):
    """The head of DeepLabV3 in mmsegmentation: only ASPP, with a 3 x 3 last convolution."""

    stage: str
    rates: tuple[int, ...] = (12, 24, 36)
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        aspp = ASPP(self.rates, self.channels, kernel_size=3, name="aspp", **shared)
        return ContextOutput(aspp(features[self.stage], train))


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return ASPPContext(stages.last, needed_rates(model), **shared)


def _build_short(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return ShortASPPContext(stages.last, needed_rates(model), **shared)


def needed_rates(model: ConfigDict) -> tuple[int, ...]:
    """Read the dilations of a block that requires them from the `model` section of a config."""
    if not model.aspp_rates:
        raise ValueError(f'context "{model.context}" needs aspp_rates, such as (12, 24, 36).')
    return tuple(model.aspp_rates)


BLOCK = ContextBlock("aspp", _build, has_aspp=True)
SHORT = ContextBlock("aspp", _build_short, variant="mmsegmentation", has_aspp=True)
