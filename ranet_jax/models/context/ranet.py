"""The paper's two blocks: Region Construction (Eqs. 1-5) and Region Interaction (Eqs. 6-8)."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.aspp import ASPP
from ranet_jax.models.context.block import ContextBlock, PixelPairs
from ranet_jax.models.layers import ConvBN, Dtype, score_map
from ranet_jax.models.outputs import (
    INTERACTION_INPUTS,
    INTERMEDIATES,
    REGION_INPUTS,
    ContextOutput,
    Regions,
)
from ranet_jax.ops import dense, schedules, streaming

# How Eqs. 1-5 are computed: without tables of all pairs of pixels, in the order that suits the
# platform ("auto") or in the named order; or with tables ("dense").
REGION_PATHS: dict[str, Callable[..., Any]] = {
    "auto": streaming.region_map,
    **{
        name: functools.partial(streaming.region_map, schedule=name) for name in schedules.SCHEDULES
    },
    "dense": dense.region_map,
}
# The score maps that distinguish pixels: both, or only one, as in Table 1 of the paper.
REGION_SCORES = ("both", "boundary", "semantic")

# W^g of Eq. 4 is learned as its deviation from the identity, in this unit, so that it changes a
# thousand times slower than other parameters and weight decay pulls it back to the identity. If it
# could change freely, it would fall below the threshold within a hundred steps; after that, no two
# pixels are linked and no gradient corrects it.
DEVIATION_UNIT = 1 / 32

# The scale of the projected context is learned in this unit, so that it grows from 0 sixteen times
# as fast as in units of 1. In units of 1, short training runs end before the context has an effect.
# If the scale started from 1 instead, the context would disturb the first steps.
CONTEXT_UNIT = 4.0


def group_kernel(deviation: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """W^g of Eq. 4: the k x k kernel with 1 in the middle, plus its learned deviation."""
    middle = deviation.shape[0] // 2
    return (DEVIATION_UNIT * jnp.asarray(deviation)).at[middle, middle].add(1.0)


class RegionConstructionBlock(nn.Module):
    """RCB: boundary and semantic scores of each pixel, the resulting regions, and their scores.

    With `region_scores` "boundary" all pixels count as one category (E = 0); with "semantic" no
    boundary lies between them (D = 0). The inputs of the equations (B, C and W^g) are sown as
    `REGION_INPUTS`.
    """

    num_classes: int
    num_regions: int = 64
    per_region: int = 8
    threshold: float = 0.8
    kernel_size: int = 1
    region_path: str = "auto"
    region_scores: str = "both"

    @nn.compact
    def __call__(
        self, visual: Float[Array, "b h w m"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w 2"], Regions]:
        """Coarse scores, boundary scores (both before softmax) and regions of feature maps."""
        coarse = score_map(visual, self.num_classes, "semantic_logit")
        boundary = score_map(visual, 2, "boundary_logit")
        deviation = self.param(
            "group_kernel_deviation", nn.initializers.zeros, (self.kernel_size,) * 2
        )
        kernel = group_kernel(deviation)
        crossing, probabilities = nn.softmax(boundary)[..., 1], nn.softmax(coarse)
        if self.region_scores == "boundary":
            probabilities = jnp.full_like(probabilities, 1 / self.num_classes)
        elif self.region_scores == "semantic":
            crossing = jnp.zeros_like(crossing)
        self.sow(INTERMEDIATES, REGION_INPUTS, (crossing, probabilities, kernel))
        return coarse, boundary, self.construct(crossing, probabilities, kernel)

    def construct(
        self,
        boundary: Float[Array, "b h w"],
        probabilities: Float[Array, "b h w c"],
        kernel: Float[Array, "k k"],
    ) -> Regions:
        """Regions from boundary probabilities B and category distributions C (Eqs. 1-5)."""
        region_map = REGION_PATHS[self.region_path]

        def construct_one(boundary: Array, probabilities: Array) -> Regions:
            labels, score = region_map(boundary, probabilities, kernel, self.threshold)
            representatives = ops.select_representatives(
                score, labels, self.num_regions, self.per_region
            )
            return Regions(labels, score, representatives)

        return jax.vmap(construct_one)(boundary, probabilities)


class RegionInteractionBlock(nn.Module):
    """RIB: collection, interaction and distribution of context through the representatives.

    Without `intra_region`, nothing is collected or distributed: representatives gather from the
    representatives of other regions, and all other pixels keep O_i = J_i A_i. Without
    `inter_region`, regions do not interact: A^g = J A^l.
    """

    intra_region: bool = True
    inter_region: bool = True

    @nn.compact
    def __call__(
        self, visual: Float[Array, "b h w m"], regions: Regions
    ) -> Float[Array, "b h w m"]:
        """Contextual features O of visual features A."""

        def interact(features: Array, regions: Regions) -> Array:
            score, labels, representatives = regions.score, regions.labels, regions.representatives
            scored = score[:, None].astype(features.dtype) * features
            indices, valid = representatives.indices, representatives.valid
            local = scored[indices]
            if self.intra_region:
                local = ops.collect(features, score, labels, representatives)
            context = score[indices][..., None].astype(features.dtype) * local
            if self.inter_region:
                context = ops.interact(local, score, representatives)
            if self.intra_region:
                return ops.distribute(features, score, labels, representatives, context)
            places = jnp.where(valid, indices, len(score))
            return scored.at[places].set(context, mode="drop")

        batch, height, width, channels = visual.shape
        flat = visual.reshape(batch, height * width, channels)
        return jax.vmap(interact)(flat, regions).reshape(visual.shape)


class RANetContext(nn.Module):
    """The context block of the paper on one stage of a backbone.

    A 3 x 3 convolution, or an ASPP with `aspp_rates`, computes the visual features A; RCB and RIB
    compute the contextual features O; a last 3 x 3 convolution fuses A with the projected O. RIB
    gets A / m^(1/2), so that its logits are means over the m channels, not sums. The projection's
    BatchNorm starts at scale 0, as in non-local blocks (Wang et al., 2018), so that training
    starts from the network without context; the scale is learned in units of `CONTEXT_UNIT`. The
    input of RIB is sown as `INTERACTION_INPUTS`.
    """

    num_classes: int
    stage: str
    channels: int = 512
    num_regions: int = 64
    per_region: int = 8
    threshold: float = 0.8
    kernel_size: int = 1
    region_path: str = "auto"
    region_scores: str = "both"
    intra_region: bool = True
    inter_region: bool = True
    aspp_rates: tuple[int, ...] = ()
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels], coarse and boundary scores, and regions."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        if self.aspp_rates:
            reduce: nn.Module = ASPP(self.aspp_rates, self.channels, name="aspp", **shared)
        else:
            reduce = ConvBN(self.channels, name="reduce", **shared)
        visual = reduce(features[self.stage], train)
        coarse, boundary, regions = RegionConstructionBlock(
            self.num_classes,
            self.num_regions,
            self.per_region,
            self.threshold,
            self.kernel_size,
            self.region_path,
            self.region_scores,
            name="rcb",
        )(visual)
        interaction = RegionInteractionBlock(self.intra_region, self.inter_region, name="rib")
        scaled = visual * self.channels**-0.5
        self.sow(INTERMEDIATES, INTERACTION_INPUTS, scaled)
        context = interaction(scaled, regions)
        project = ConvBN(
            self.channels, 1, activation=None, initial_scale=0.0, name="project", **shared
        )
        context = CONTEXT_UNIT * project(context, train)
        fused = ConvBN(self.channels, name="fuse", **shared)(
            jnp.concatenate([visual, context], axis=-1), train
        )
        return ContextOutput(fused, coarse, boundary, regions)


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    for name, choices in (("region_path", tuple(REGION_PATHS)), ("region_scores", REGION_SCORES)):
        if model[name] not in choices:
            raise ValueError(f"{name} is {model[name]!r}; choose one of {choices}.")
    if not (model.intra_region or model.inter_region):
        raise ValueError("intra_region and inter_region are both False; set at least one to True.")
    return RANetContext(
        num_classes,
        stages.last,
        num_regions=model.num_regions,
        per_region=model.per_region,
        threshold=model.threshold,
        kernel_size=model.kernel_size,
        region_path=model.region_path,
        region_scores=model.region_scores,
        intra_region=model.intra_region,
        inter_region=model.inter_region,
        aspp_rates=tuple(model.aspp_rates),
        **shared,
    )


def _pairs(model: ConfigDict) -> PixelPairs:
    # A W^g larger than one pixel is convolved over the table.
    tables = model.region_path == "dense" or model.kernel_size > 1
    return PixelPairs.TABLES if tables else PixelPairs.STREAMED


BLOCK = ContextBlock("ranet", _build, variant="paper", pairs=_pairs, has_aspp=True, has_coarse=True)
