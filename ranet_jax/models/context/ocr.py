"""Object-contextual representations (Yuan et al., 2020): pixels gather from soft object regions."""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.context.non_local import attend
from ranet_jax.models.layers import ConvBN, Dtype, score_map
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops import resize_bilinear
from ranet_jax.ops.interaction import exact_einsum, precise


def region_representations(
    features: Float[Array, "n m"], scores: Float[Array, "n c"]
) -> Float[Array, "c m"]:
    """Average the pixels of each category's soft region, `f_k = sum_i softmax_i(s_ik) x_i`.

    The softmax is over the pixels. It and the sums are float32 at least; the result has the dtype
    of the features.
    """
    weights = nn.softmax(precise(scores), axis=0)
    averages = exact_einsum("nc,nm->cm", weights, precise(features))
    return averages.astype(features.dtype)


class OCRContext(nn.Module):
    """The head of OCRNet on one stage, with coarse scores from an earlier one, `score_stage`.

    A 3 x 3 convolution and a classifier compute the coarse scores, which are resized to the stage
    and define a soft region for each category. Pixels gather from the means of the regions, with
    both embedded in half the channels, and a 1 x 1 convolution fuses the gathered features with the
    reduced stage.

    The convolution before the scores has `channels` channels. With `score_share`, as in
    mmsegmentation, it has the channels of its stage divided by `score_share`, and it is 1 x 1 if
    `score_share` is 1.
    """

    num_classes: int
    stage: str
    score_stage: str
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    score_share: int | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage, and coarse scores."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        inner = self.channels // 2

        def embed(x: Array, name: str, depth: int = inner) -> Array:
            return ConvBN(depth, 1, name=name, **shared)(x, train)

        visual = ConvBN(self.channels, name="reduce", **shared)(features[self.stage], train)
        early = features[self.score_stage]
        share = self.score_share
        depth = max(1, early.shape[-1] // share) if share else self.channels
        size = 1 if share == 1 else 3
        scored = ConvBN(depth, size, name="score_reduce", **shared)(early, train)
        coarse = score_map(scored, self.num_classes, "semantic_logit")
        batch, height, width, _ = visual.shape
        coarse = resize_bilinear(coarse, (height, width))

        def flat(x: Array) -> Array:
            return x.reshape(batch, -1, x.shape[-1])

        regions = jax.vmap(region_representations)(flat(visual), flat(coarse))
        regions = regions[:, :, None, :]
        query = embed(embed(visual, "pixel1"), "pixel2")
        key = embed(embed(regions, "region1"), "region2")
        value = embed(regions, "region_value")
        gathered = jax.vmap(attend)(flat(query), flat(key), flat(value))
        context = embed(gathered.reshape(query.shape), "project", self.channels)
        fused = embed(jnp.concatenate([context, visual], axis=-1), "fuse", self.channels)
        return ContextOutput(fused, coarse)


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return OCRContext(num_classes, stages.last, stages.earlier or stages.last, **shared)


def _build_shared(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    share = 4 if stages.earlier else 1
    return _build(model, stages, num_classes, score_share=share, **shared)


BLOCK = ContextBlock(
    "ocr",
    _build,
    has_coarse=True,
    min_channels=2,  # the embeddings have half the channels
)
SHARED = replace(BLOCK, build=_build_shared, variant="mmsegmentation")
