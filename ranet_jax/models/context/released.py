"""The context block of the authors' released code, which differs from the one in the paper."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock, PixelPairs
from ranet_jax.models.layers import ChannelDropout, ConvBN, Dtype, conv, score_map
from ranet_jax.models.outputs import ContextOutput, Regions
from ranet_jax.ops.released import (
    attend,
    binary_divergence,
    normalized_score,
    region_total,
    select_released,
)

leaky_relu = partial(nn.leaky_relu, negative_slope=0.01)


class MaskedBatchNorm(nn.Module):
    """BatchNorm of padded lists, with training statistics of the valid rows only.

    All rows of all images, and of all devices along `axis_name`, have the same weight, however many
    rows each device has; `flax.linen.BatchNorm` would average the means of the devices regardless
    of their numbers of rows. Parameters, statistics, momentum and epsilon are those of
    `layers.batch_norm`.
    """

    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b r m"], valid: Bool[Array, "b r"], train: bool = False
    ) -> Float[Array, "b r m"]:
        """Normalised rows; invalid rows have no meaning."""
        channels = inputs.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        wide = inputs.astype(jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            rows = self._sum(valid.sum().astype(jnp.float32))

            def average(x: Array) -> Array:
                return self._sum(jnp.where(valid[..., None], x, 0.0).sum(axis=(0, 1))) / rows

            mean = average(wide)
            var = average(jnp.square(wide - mean[None, None]))
            if not self.is_initializing():
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_var.value = 0.9 * running_var.value + 0.1 * var
        factor = scale * jax.lax.rsqrt(var + 1e-5)
        outputs = (wide - mean[None, None]) * factor[None, None] + bias[None, None]
        return outputs.astype(self.dtype)

    def _sum(self, x: Array) -> Array:
        """Sum over the devices."""
        mapped = self.axis_name is not None and not self.is_initializing()
        return jax.lax.psum(x, self.axis_name) if mapped else x


class ListConvBN(nn.Module):
    """3 x 3 convolution, BatchNorm and LeakyReLU of padded lists laid out as [r, 1] images.

    Only the middle column of the kernel covers the list: each row sees itself and its neighbours,
    and zeros beyond the valid rows. Parameters are those of `layers.ConvBN`.
    """

    features: int
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b r m"], valid: Bool[Array, "b r"], train: bool = False
    ) -> Float[Array, "b r m2"]:
        """Rows of the list; invalid rows have no meaning."""
        inputs = jnp.where(valid[..., None], inputs, 0.0)
        outputs = conv(self.features, 3, dtype=self.dtype, name="conv")(inputs[:, :, None])
        norm = MaskedBatchNorm(self.dtype, self.axis_name, name="bn")
        return leaky_relu(norm(outputs[:, :, 0], valid, train))


class ReleasedContext(nn.Module):
    """The context block of the authors' released code on layer3 and layer4 of a ResNet.

    Coarse and boundary scores come from layer3; they divide the image into regions and score the
    pixels as in the paper, except for the divergence (`binary_divergence`) and for W^g: the
    released code creates a 1 x 1 group convolution of weight 1 and leaves it unused, so there is no
    parameter for it here. The representatives of an image form one list over all its regions
    (`select_released`), padded to the number of pixels of the image. Collection, interaction and
    distribution attend to everything, each followed by a 3 x 3 convolution.

    The dropout after the last convolution is that of the segmenter. `num_regions` only limits the
    slots of the representatives in the returned `Regions`, which this block does not use.
    """

    num_classes: int
    channels: int = 512
    num_regions: int = 64
    per_region: int = 8
    threshold: float = 0.8
    dropout: float = 0.1
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels], coarse and boundary scores, and regions."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        dsn = ConvBN(self.channels, use_bias=True, activation=None, name="dsn", **shared)
        stem = ChannelDropout(self.dropout, self.axis_name)(dsn(features["layer3"], train), train)
        coarse = score_map(stem, self.num_classes, "dsn_semantic_logit")
        boundary = score_map(stem, 2, "dsn_boundary_logit")
        regions, indices, valid = jax.vmap(self.construct)(
            nn.softmax(boundary)[..., 1], nn.softmax(coarse)
        )

        normed = partial(ConvBN, self.channels, activation=leaky_relu, **shared)
        listed = partial(ListConvBN, self.channels, **shared)
        feats = normed(name="feats_conv")(features["layer4"], train)
        batch, height, width, _ = feats.shape
        pixels = (batch, height * width, self.channels)
        query = normed(name="query_conv")(feats, train).reshape(pixels)
        value = normed(name="value_conv")(feats, train).reshape(pixels)

        everywhere = jnp.ones(pixels[:2], bool)
        picked = jnp.take_along_axis(value, indices[..., None], axis=1)
        score = jnp.take_along_axis(regions.score, indices, axis=1)
        collected = jax.vmap(attend)(picked, value, regions.score, everywhere)
        collected = listed(name="collect_conv")(collected, valid, train)
        interacted = jax.vmap(attend)(collected, collected, score, valid)
        interacted = listed(name="interact_conv")(interacted, valid, train)
        context = jax.vmap(attend)(query, interacted, score, valid).reshape(feats.shape)
        context = normed(name="distribute_conv")(context, train)
        final = normed(name="final_conv")(jnp.concatenate([feats, context], axis=-1), train)
        return ContextOutput(final, coarse, boundary, regions)

    def construct(
        self, boundary: Float[Array, "h w"], probabilities: Float[Array, "h w c"]
    ) -> tuple[Regions, Array, Array]:
        """Regions of one image, the indices [n] of its representatives, and which are valid."""
        attention = ops.region_attention(
            ops.segment_max(boundary, end_points=False),
            binary_divergence(probabilities.reshape(-1, self.num_classes)),
        )
        labels = ops.partition(ops.region_decision(attention, self.threshold))
        total = region_total(attention, labels)
        score = normalized_score(total, labels)
        grouped = ops.select_representatives(score, labels, self.num_regions, self.per_region)
        indices, valid = select_released(total, labels, self.per_region)
        return Regions(labels, score, grouped), indices, valid


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    if (model.region_scores, model.intra_region, model.inter_region) != ("both", True, True):
        raise ValueError(
            'variant "released" has no optional parts; set region_scores to "both",'
            " and intra_region and inter_region to True."
        )
    if model.aspp_rates:
        raise ValueError('variant "released" has no ASPP; leave aspp_rates empty.')
    settings = (model.stem, model.stages, model.output_stride)
    if model.backbone not in BACKBONES or settings != ("deep", 4, 8):
        raise ValueError(
            f'variant "released" is made for a backbone of {BACKBONES}, stem = "deep",'
            " stages = 4 and output_stride = 8."
        )
    return ReleasedContext(
        num_classes,
        num_regions=model.num_regions,
        per_region=model.per_region,
        threshold=model.threshold,
        dropout=model.dropout,
        **shared,
    )


# Backbones with bottleneck blocks.
BACKBONES = ("resnet50", "resnet101")
BLOCK = ContextBlock(
    "ranet",
    _build,
    variant="released",
    pairs=lambda model: PixelPairs.TABLES,
    has_coarse=True,
    has_fine_boundary=True,
    backbone={"multi_grid": (4, 8, 16), "dilate_first_block": True, "ceil_pool": True},
)
