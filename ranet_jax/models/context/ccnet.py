"""Criss-cross attention of CCNet (Huang et al., 2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.context.block import ContextBlock, on_last_stage
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops.interaction import exact_einsum, precise

# After two rounds, every pixel has received information from every other pixel.
RECURRENCES = 2


def criss_cross(
    query: Float[Array, "h w d"], key: Float[Array, "h w d"], value: Float[Array, "h w m"]
) -> Float[Array, "h w m"]:
    """Average the values of each pixel's row and column, weighted by one softmax of Q . K.

    The pixel itself lies on both, and counts once. Logits, softmax and sums are float32 at least;
    the result has the dtype of the values.
    """
    q, k, v = (precise(x) for x in (query, key, value))
    height = q.shape[0]
    along_column = exact_einsum("hwd,gwd->hwg", q, k)
    itself = jnp.eye(height, dtype=bool)[:, None, :]
    along_column = jnp.where(itself, -jnp.inf, along_column)
    along_row = exact_einsum("hwd,hvd->hwv", q, k)
    weights = nn.softmax(jnp.concatenate([along_column, along_row], axis=-1))
    of_column, of_row = weights[..., :height], weights[..., height:]
    gathered = exact_einsum("hwg,gwm->hwm", of_column, v) + exact_einsum("hwv,hvm->hwm", of_row, v)
    return gathered.astype(value.dtype)


class CCContext(nn.Module):
    """Criss-cross attention on one stage, applied twice with the same weights.

    A 3 x 3 convolution reduces the stage. 1 x 1 convolutions compute queries and keys with an
    eighth of the channels, and values with all channels. The gathered values are added with a
    learned factor that starts at 0. A 3 x 3 convolution follows, and a last one fuses the result
    with the stage.
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
        inner = max(1, self.channels // 8)
        layers = {
            name: conv(width, 1, use_bias=True, dtype=self.dtype, name=name)
            for name, width in (("query", inner), ("key", inner), ("value", self.channels))
        }
        factor = self.param("gamma", nn.initializers.zeros, ()).astype(self.dtype)
        context = ConvBN(self.channels, name="reduce", **shared)(features[self.stage], train)
        for _ in range(RECURRENCES):
            embedded = (layer(context) for layer in layers.values())
            context = context + factor * jax.vmap(criss_cross)(*embedded)
        context = ConvBN(self.channels, name="refine", **shared)(context, train)
        fused = ConvBN(self.channels, name="fuse", **shared)(
            jnp.concatenate([features[self.stage], context], axis=-1), train
        )
        return ContextOutput(fused)


BLOCK = ContextBlock("ccnet", on_last_stage(CCContext))
