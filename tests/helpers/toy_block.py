"""A context block as someone else would add it: this file, and its name in `BLOCKS`.

Each pixel learns from the mean of all pixels.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.context.block import ContextBlock
from ranet_jax.models.layers import ConvBN, Dtype, score_map
from ranet_jax.models.outputs import ContextOutput


class MeanContext(nn.Module):
    num_classes: int
    stage: str
    channels: int = 512
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        visual = ConvBN(self.channels, name="reduce", **shared)(features[self.stage], train)
        mean = jnp.mean(visual, axis=(1, 2), keepdims=True)
        coarse = score_map(visual, self.num_classes, "semantic_logit")
        return ContextOutput(visual + mean, coarse)


def build(model, stages, num_classes, **shared):
    return MeanContext(num_classes, stages.last, **shared)


BLOCK = ContextBlock("mean", build, has_coarse=True)
