"""Dual attention of DANet (Fu et al., 2019): between positions and between channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.context.block import ContextBlock, PixelPairs, on_last_stage
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops.interaction import exact_einsum, precise


def position_attention(
    query: Float[Array, "n d"], key: Float[Array, "n d"], value: Float[Array, "n m"]
) -> Float[Array, "n m"]:
    """Average the values of all pixels, weighted by a softmax of Q . K: `softmax(Q K^T) V`.

    Logits, softmax and sums are float32 at least.
    """
    logits = exact_einsum("qd,kd->qk", precise(query), precise(key))
    gathered = exact_einsum("qk,km->qm", nn.softmax(logits), precise(value))
    return gathered.astype(value.dtype)


def channel_attention(features: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Average channels, weighted by a softmax of their dissimilarity, in float32 at least.

    With E = X^T X, channel c weights channel d by the softmax over d of max_d E_cd - E_cd.
    """
    x = precise(features)
    energy = exact_einsum("nc,nd->cd", x, x)
    weights = nn.softmax(jnp.max(energy, axis=-1, keepdims=True) - energy)
    return exact_einsum("cd,nd->nc", weights, x).astype(features.dtype)


class DAContext(nn.Module):
    """Both attentions on one stage, each between two 3 x 3 convolutions, and their sum.

    The sum is classified; in training, each of the two attentions is also classified separately.

    The gathered values of each attention are added to its input with a learned factor that starts
    at 0. Queries and keys have an eighth of the channels. The table of all pairs of pixels makes
    memory O(n^2).
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

        def conv_bn(name: str, inputs: Array) -> Array:
            return ConvBN(self.channels, name=name, **shared)(inputs, train)

        def add(name: str, inputs: Array, gathered: Array) -> Array:
            factor = self.param(name, nn.initializers.zeros, ()).astype(self.dtype)
            return inputs + factor * gathered.reshape(inputs.shape)

        def embed(name: str, width: int) -> Array:
            layer = conv(width, 1, use_bias=True, dtype=self.dtype, name=name)
            return _flat(layer(positions))

        positions = conv_bn("position_reduce", features[self.stage])
        inner = max(1, self.channels // 8)
        gathered = jax.vmap(position_attention)(
            embed("query", inner), embed("key", inner), embed("value", self.channels)
        )
        positions = conv_bn("position_fuse", add("position_gamma", positions, gathered))

        channels = conv_bn("channel_reduce", features[self.stage])
        gathered = jax.vmap(channel_attention)(_flat(channels))
        channels = conv_bn("channel_fuse", add("channel_gamma", channels, gathered))
        branches = {"position": positions, "channel": channels}
        return ContextOutput(positions + channels, branches=branches)


def _flat(maps: Float[Array, "b h w m"]) -> Float[Array, "b n m"]:
    return maps.reshape(maps.shape[0], -1, maps.shape[-1])


BLOCK = ContextBlock(
    "danet",
    on_last_stage(DAContext),
    pairs=lambda model: PixelPairs.TABLES,
)
