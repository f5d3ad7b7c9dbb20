"""ASPP and decoder of DeepLabV3+ (Chen et al., 2018), with depthwise separable convolutions."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.aspp import ASPP, needed_rates
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ChannelDropout, ConvBN, Dtype, SeparableConvBN
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops import resize_bilinear


class DeepLabV3PlusContext(nn.Module):
    """ASPP on one stage, resized to a `shallow` stage and fused with it by two convolutions.

    A 1 x 1 convolution reduces the shallow stage to 3/16 of its channels, such as 256 to 48. ASPP's
    last convolution is 1 x 1, or 3 x 3 as in mmsegmentation (`kernel_size`).
    """

    stage: str
    shallow: str
    rates: tuple[int, ...] = (12, 24, 36)
    channels: int = 512
    kernel_size: int = 1
    align_corners: bool = True
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the size of the shallow stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        settings: dict[str, Any] = {"kernel_size": self.kernel_size, "separable": True}
        aspp = ASPP(self.rates, self.channels, name="aspp", **settings, **shared)
        context = aspp(features[self.stage], train)
        shallow = features[self.shallow]
        reduce = ConvBN(max(1, 3 * shallow.shape[-1] // 16), 1, name="shallow_reduce", **shared)
        context = _beside(context, reduce(shallow, train), self.align_corners)
        for name in ("refine", "fuse"):
            context = SeparableConvBN(self.channels, name=name, **shared)(context, train)
        return ContextOutput(context)


class LinearDeepLabV3PlusContext(nn.Module):
    """The head as in segmentation_models.pytorch, with one of its convolutions before resizing.

    Its separable convolutions have no BatchNorm or ReLU between their two parts. The shallow stage
    is reduced to 3/16 of the block's channels.
    """

    stage: str
    shallow: str
    rates: tuple[int, ...] = (12, 24, 36)
    channels: int = 256
    align_corners: bool = True
    dropout: float = 0.5
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the size of the shallow stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        separable = partial(SeparableConvBN, self.channels, linear=True, **shared)
        aspp = ASPP(self.rates, self.channels, separable=True, linear=True, name="aspp", **shared)
        context = aspp(features[self.stage], train)
        context = ChannelDropout(self.dropout, self.axis_name)(context, train)
        context = separable(name="refine")(context, train)
        reduce = ConvBN(max(1, 3 * self.channels // 16), 1, name="shallow_reduce", **shared)
        details = reduce(features[self.shallow], train)
        context = _beside(context, details, self.align_corners)
        return ContextOutput(separable(name="fuse")(context, train))


def _beside(
    context: Float[Array, "b h w m"], details: Float[Array, "b H W d"], align_corners: bool
) -> Float[Array, "b H W k"]:
    """Resize the context to the size of the details, and concatenate both."""
    shape = details.shape[1], details.shape[2]
    return jnp.concatenate([resize_bilinear(context, shape, align_corners), details], axis=-1)


def _build_linear(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return LinearDeepLabV3PlusContext(
        stages.last,
        stages.shallow,
        needed_rates(model),
        align_corners=model.align_corners,
        **shared,
    )


def _build(
    model: ConfigDict, stages: Stages, num_classes: int, kernel_size: int = 1, **shared: Any
) -> nn.Module:
    return DeepLabV3PlusContext(
        stages.last,
        stages.shallow,
        needed_rates(model),
        kernel_size=kernel_size,
        align_corners=model.align_corners,
        **shared,
    )


BLOCK = ContextBlock("deeplabv3plus", _build, has_aspp=True)
WIDE = ContextBlock(
    "deeplabv3plus", partial(_build, kernel_size=3), variant="mmsegmentation", has_aspp=True
)
LINEAR = ContextBlock("deeplabv3plus", _build_linear, variant="segmentation_models", has_aspp=True)
