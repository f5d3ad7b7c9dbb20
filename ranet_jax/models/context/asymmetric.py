"""Asymmetric non-local attention (Zhu et al., 2019): keys and values are means over grids."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.context.non_local import attend
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput

# Cells per side of the grids: 1 + 9 + 36 + 64 = 110 keys for maps of any size.
BINS = (1, 3, 6, 8)


def sample_pyramid(maps: Float[Array, "h w m"]) -> Float[Array, "s m"]:
    """Means over grids of 1, 3, 6 and 8 cells per side, one after the other: 110 rows."""
    levels = [ops.adaptive_average_pool(maps, bins) for bins in BINS]
    return jnp.concatenate([level.reshape(-1, maps.shape[-1]) for level in levels])


def attend_samples(
    query: Float[Array, "h w d"], key: Float[Array, "h2 w2 d"], value: Float[Array, "h2 w2 m"]
) -> Float[Array, "h w m"]:
    """Compute softmax(q P(K)^T / sqrt(d)) P(V) for each pixel, where P is `sample_pyramid`."""
    rows = query.reshape(-1, query.shape[-1])
    gathered = attend(rows, sample_pyramid(key), sample_pyramid(value))
    return gathered.reshape(*query.shape[:2], -1)


class AsymmetricContext(nn.Module):
    """The two asymmetric blocks, with embeddings of half the channels.

    In the fusion block (AFNB) the pixels of the stage gather from the pixels of the `earlier`
    stage, which may have any size; without an earlier stage this block is left out. A 3 x 3
    convolution reduces the result to `channels` channels. In the pyramid block (APNB) the pixels of
    that result gather from one another, and queries and keys are the same embedding. In both
    blocks, the gathered features are projected by weights that start at 0, and a 1 x 1 convolution
    fuses them with the block's input.
    """

    stage: str
    earlier: str = ""
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        inner = max(1, self.channels // 2)

        def embed(x: Array, name: str) -> Array:
            return ConvBN(inner, 1, name=name, **shared)(x, train)

        def value(x: Array, name: str) -> Array:
            return conv(inner, 1, use_bias=True, dtype=self.dtype, name=name)(x)

        def context(query: Array, key: Array, value: Array, depth: int, name: str) -> Array:
            zeros = nn.initializers.zeros
            project = nn.Conv(depth, (1, 1), kernel_init=zeros, dtype=self.dtype, name=name)
            return project(jax.vmap(attend_samples)(query, key, value))

        visual = features[self.stage]
        if self.earlier:
            earlier, depth = features[self.earlier], visual.shape[-1]
            query, key = embed(visual, "fusion_query"), embed(earlier, "fusion_key")
            gathered = context(query, key, value(earlier, "fusion_value"), depth, "fusion_project")
            fuse = ConvBN(depth, 1, activation=None, name="fusion_fuse", **shared)
            visual = fuse(jnp.concatenate([gathered, visual], axis=-1), train)
        visual = ConvBN(self.channels, name="reduce", **shared)(visual, train)
        query = embed(visual, "query_key")
        gathered = context(query, query, value(visual, "value"), self.channels, "project")
        fuse = ConvBN(self.channels, 1, name="fuse", **shared)
        return ContextOutput(fuse(jnp.concatenate([gathered, visual], axis=-1), train))


def _build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
    return AsymmetricContext(stages.last, stages.earlier, **shared)


BLOCK = ContextBlock("asymmetric", _build)
