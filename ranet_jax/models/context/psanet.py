"""Point-wise spatial attention of PSANet (Zhao et al., 2018)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax import ops
from ranet_jax.models.context.block import ContextBlock, PixelPairs, on_last_stage
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops.interaction import exact_einsum, precise

# Side of the largest map on which all pixels see each other: features of 97 x 97, which is what a
# crop of 769 x 769 has, at half their resolution.
REACH = 49


def pair_logits(offsets: Float[Array, "h w r"], reach: int) -> Float[Array, "n n"]:
    """Logits of pairs of pixels, a row a pixel, from its logits of r = (2 reach - 1)^2 offsets.

    The offset (dy, dx) has entry (reach - 1 + dy) (2 reach - 1) + (reach - 1 + dx); a pixel `reach`
    or more away has logit 0. In a row of three pixels, offsets -1, 0 and 1 (reach 2) give

        pixel 0   a b c          b c 0
        pixel 1   d e f    to    d e f
        pixel 2   g h i          0 g h
    """
    height, width, _ = offsets.shape
    side, beyond = 2 * reach - 1, max(height, width, reach) - reach
    table = offsets.reshape(height * width, side, side)
    table = jnp.pad(table, ((0, 0), (beyond, beyond), (beyond, beyond)))
    middle = reach - 1 + beyond
    pixels = jnp.arange(height * width)

    def row(table: Array, pixel: Array) -> Array:
        start = (middle - pixel // width, middle - pixel % width)
        return jax.lax.dynamic_slice(table, start, (height, width)).reshape(-1)

    return jax.vmap(row)(table, pixels)


def collect(features: Float[Array, "n m"], logits: Float[Array, "n n"]) -> Float[Array, "n m"]:
    """Each pixel gathers from all by the softmax of its own row of logits, in float32 at least."""
    weights = nn.softmax(precise(logits), axis=1)
    gathered = exact_einsum("ij,jm->im", weights, precise(features))
    return gathered.astype(features.dtype)


def distribute(features: Float[Array, "n m"], logits: Float[Array, "n n"]) -> Float[Array, "n m"]:
    """Each pixel gathers from all by the softmax of its column: what their rows say of it."""
    return collect(features, logits.T)


GATHERERS = {"collect": collect, "distribute": distribute}


class PSAContext(nn.Module):
    """Collection and distribution of one stage at half its resolution.

    Each branch reduces the stage to the channels, predicts a logit for every offset and gathers by
    them. A 1 x 1 convolution of both has the stage's channels; back at full resolution, a 3 x 3 one
    fuses it with the stage. Parameters grow with the square of `reach`. Maps may have any
    size. The tables of all pairs of pixels make memory O(n^2).
    """

    stage: str
    channels: int = 512
    reach: int = REACH
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        stage = features[self.stage]
        height, width = stage.shape[1:3]
        half = ((height + 1) // 2, (width + 1) // 2)
        branches = []
        for name, gather in GATHERERS.items():
            reduce = ConvBN(self.channels, 1, name=f"{name}_reduce", **shared)
            reduced = ops.resize_bilinear(reduce(stage, train), half)
            hidden = ConvBN(self.channels, 1, name=f"{name}_attention", **shared)(reduced, train)
            offsets = conv((2 * self.reach - 1) ** 2, 1, dtype=self.dtype, name=f"{name}_offsets")(
                hidden
            )

            logits = jax.vmap(partial(pair_logits, reach=self.reach))(offsets)
            rows = reduced.reshape(reduced.shape[0], -1, self.channels)
            branches.append(jax.vmap(gather)(rows, logits).reshape(reduced.shape))
        project = ConvBN(stage.shape[-1], 1, name="project", **shared)
        context = project(jnp.concatenate(branches, axis=-1), train)
        context = ops.resize_bilinear(context, (height, width))
        fuse = ConvBN(self.channels, name="fuse", **shared)
        return ContextOutput(fuse(jnp.concatenate([stage, context], axis=-1), train))


BLOCK = ContextBlock(
    "psanet",
    on_last_stage(PSAContext),
    pairs=lambda model: PixelPairs.TABLES,
)
