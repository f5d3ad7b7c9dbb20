"""The non-local block (Wang et al., 2018), a common baseline: each pixel gathers from all."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.context.block import ContextBlock, PixelPairs, on_last_stage
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops.interaction import exact_einsum, precise


def attend(
    query: Float[Array, "q d"], key: Float[Array, "k d"], value: Float[Array, "k m"]
) -> Float[Array, "q m"]:
    """Average the values by a softmax of scaled dot products, `softmax(Q K^T / sqrt(d)) V`.

    This is the embedded Gaussian of Wang et al. (2018, Eq. 3) for pixels embedded as Q and K,
    scaled as in their code. Logits, softmax and sums are float32 at least; the result has the dtype
    of the values.
    """
    scaled = precise(query) / query.shape[-1] ** 0.5
    weights = nn.softmax(exact_einsum("qd,kd->qk", scaled, precise(key)))
    return exact_einsum("qk,km->qm", weights, precise(value)).astype(value.dtype)


class NonLocalContext(nn.Module):
    """The non-local block on one stage of a backbone, placed as `RANetContext` places its blocks.

    1 x 1 convolutions embed the visual features A in half their channels as `theta`, `phi` and
    `g`. The features that each pixel gathers are projected back and added to A; the projection's
    BatchNorm starts at scale 0, so that training starts from the network without context. A last
    3 x 3 convolution fuses A with the sum. The tables of all pairs of pixels make memory O(n^2).

    With `refined`, as in mmsegmentation, the embeddings have biases and a 3 x 3 convolution follows
    the sum, and the last convolution fuses the result with the stage instead of A.
    """

    stage: str
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    refined: bool = False

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        visual = ConvBN(self.channels, name="reduce", **shared)(features[self.stage], train)
        batch, height, width, _ = visual.shape
        inner = self.channels // 2

        def embed(name: str) -> Array:
            embedded = conv(inner, 1, use_bias=self.refined, dtype=self.dtype, name=name)(visual)
            return embedded.reshape(batch, height * width, inner)

        gathered = jax.vmap(attend)(embed("theta"), embed("phi"), embed("g"))
        project = ConvBN(
            self.channels, 1, activation=None, initial_scale=0.0, name="project", **shared
        )
        context = visual + project(gathered.reshape(batch, height, width, inner), train)
        fused_with = visual
        if self.refined:
            context = ConvBN(self.channels, name="refine", **shared)(context, train)
            fused_with = features[self.stage]
        fused = ConvBN(self.channels, name="fuse", **shared)(
            jnp.concatenate([fused_with, context], axis=-1), train
        )
        return ContextOutput(fused)


BLOCK = ContextBlock(
    "nonlocal",
    on_last_stage(NonLocalContext),
    pairs=lambda model: PixelPairs.TABLES,
    min_channels=2,  # the embeddings have half the channels
)
REFINED = replace(
    BLOCK, build=on_last_stage(partial(NonLocalContext, refined=True)), variant="mmsegmentation"
)
