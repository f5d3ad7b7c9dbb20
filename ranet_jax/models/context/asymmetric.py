"""Asymmetric non-local attention (Zhu et al., 2019): keys and values are means over grids."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax import ops
from ranet_jax.models.context.non_local import attend
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput

# Cells a side of the grids: 1 + 9 + 36 + 64 = 110 keys whatever the size of the maps.
BINS = (1, 3, 6, 8)


def sample_pyramid(maps: Float[Array, "h w m"]) -> Float[Array, "s m"]:
    """Means over grids of 1, 3, 6 and 8 cells a side, one after the other: 110 rows."""
    levels = [ops.adaptive_average_pool(maps, bins) for bins in BINS]
    return jnp.concatenate([level.reshape(-1, maps.shape[-1]) for level in levels])


class AsymmetricContext(nn.Module):
    """The pyramid non-local block (APNB) on one stage, which a 3 x 3 convolution reduces.

    Queries and keys are one embedding of half the channels, the values another; keys and values
    are sampled by `sample_pyramid`. What is gathered is projected, by weights that start at 0, and
    a 1 x 1 convolution fuses it with the reduced stage. The published network fuses two stages of
    the backbone by a like block (AFNB) before this one, which is left out.
    """

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
        inner = max(1, self.channels // 2)
        query = ConvBN(inner, 1, name="query_key", **shared)(visual, train)
        value = conv(inner, 1, use_bias=True, dtype=self.dtype, name="value")(visual)

        def gather(query: Array, value: Array) -> Array:
            rows = query.reshape(-1, inner)
            return attend(rows, sample_pyramid(query), sample_pyramid(value)).reshape(value.shape)

        project = nn.Conv(
            self.channels,
            (1, 1),
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="project",
        )
        context = project(jax.vmap(gather)(query, value))
        fuse = ConvBN(self.channels, 1, name="fuse", **shared)
        return ContextOutput(fuse(jnp.concatenate([context, visual], axis=-1), train))
