"""Point-wise spatial attention of PSANet (Zhao et al., 2018)."""

from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.models.backbones import Stages
from ranet_jax.models.context.block import ContextBlock, PixelPairs
from ranet_jax.models.layers import ConvBN, Dtype, conv
from ranet_jax.models.outputs import ContextOutput
from ranet_jax.ops.interaction import exact_einsum, precise

# All pixels see each other on maps of up to 49 x 49, half the feature size of a 769 x 769 crop.
MASK_SIZE = (97, 97)


def pair_logits(offsets: Float[Array, "h w r"], mask_size: tuple[int, int]) -> Float[Array, "n n"]:
    """Logits of all pairs of pixels, one row per pixel, from each pixel's mask of r logits.

    A mask has one logit for each offset. In a mask of H x W, the offset (dy, dx) has entry
    ((H - 1) // 2 + dy, (W - 1) // 2 + dx); a pixel outside of the mask has logit 0. For a row of
    three pixels, masks of 1 x 3 give

        pixel 0   a b c          b c 0
        pixel 1   d e f    to    d e f
        pixel 2   g h i          0 g h
    """
    height, width, _ = offsets.shape
    beyond, centre = [], []
    for size, side in zip((height, width), mask_size, strict=True):
        middle = (side - 1) // 2
        before, after = max(0, size - 1 - middle), max(0, size + middle - side)
        beyond.append((before, after))
        centre.append(before + middle)
    table = offsets.reshape(height * width, *mask_size)
    table = jnp.pad(table, ((0, 0), *beyond))
    pixels = jnp.arange(height * width)

    def row(table: Array, pixel: Array) -> Array:
        start = (centre[0] - pixel // width, centre[1] - pixel % width)
        return jax.lax.dynamic_slice(table, start, (height, width)).reshape(-1)

    return jax.vmap(row)(table, pixels)


def collect(features: Float[Array, "n m"], logits: Float[Array, "n n"]) -> Float[Array, "n m"]:
    """Gather from all pixels to each, by the softmax of its row of logits, in float32 at least."""
    weights = nn.softmax(precise(logits), axis=1)
    gathered = exact_einsum("ij,jm->im", weights, precise(features))
    return gathered.astype(features.dtype)


def distribute(features: Float[Array, "n m"], logits: Float[Array, "n n"]) -> Float[Array, "n m"]:
    """Gather from all pixels to each, by the softmax of its column of logits.

    The column holds the logits that all pixels' masks have for this pixel.
    """
    return collect(features, logits.T)


GATHERERS = {"collect": collect, "distribute": distribute}


def halved(shape: tuple[int, int], down: bool = False) -> tuple[tuple[int, int], bool]:
    """Height and width at half the resolution, and whether to resize with aligned corners.

    Halves are rounded up, and corners are aligned. With `down`, as in mmsegmentation, this applies
    only if both sides are odd; otherwise halves are rounded down, to at least 1, and corners are
    not aligned.
    """
    if down and any(side % 2 == 0 for side in shape):
        return (max(1, shape[0] // 2), max(1, shape[1] // 2)), False
    return ((shape[0] + 1) // 2, (shape[1] + 1) // 2), True


class PSAContext(nn.Module):
    """Collection and distribution on one stage at half its resolution.

    Each branch reduces the stage to `channels` channels, predicts a logit for every offset and
    gathers with these logits. A 1 x 1 convolution projects the output of both branches to the
    stage's channels; back at full resolution, a 3 x 3 convolution fuses the result with the stage.
    The number of parameters grows with the area of the masks, `mask_size`. Maps may have any size.
    The tables of all pairs of pixels make memory O(n^2).

    With `padded`, as in mmsegmentation, the gathered features are padded by one pixel before the
    1 x 1 convolution, and maps with an even side are halved without aligned corners.
    """

    stage: str
    channels: int = 512
    mask_size: tuple[int, int] = MASK_SIZE
    dtype: Dtype = jnp.float32
    axis_name: str | None = None
    padded: bool = False

    @nn.compact
    def __call__(
        self, features: dict[str, Float[Array, "b ..."]], train: bool = False
    ) -> ContextOutput:
        """Features [b, h, w, channels] of the backbone's stage."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        stage = features[self.stage]
        shape = (stage.shape[1], stage.shape[2])
        half, align_corners = halved(shape, down=self.padded)
        branches = []
        for name, gather in GATHERERS.items():
            reduce = ConvBN(self.channels, 1, name=f"{name}_reduce", **shared)
            reduced = ops.resize_bilinear(reduce(stage, train), half, align_corners)
            hidden = ConvBN(self.channels, 1, name=f"{name}_attention", **shared)(reduced, train)
            entries = self.mask_size[0] * self.mask_size[1]
            offsets = conv(entries, 1, dtype=self.dtype, name=f"{name}_offsets")(hidden)
            logits = jax.vmap(partial(pair_logits, mask_size=self.mask_size))(offsets)
            rows = reduced.reshape(reduced.shape[0], -1, self.channels)
            branches.append(jax.vmap(gather)(rows, logits).reshape(reduced.shape))
        project = ConvBN(stage.shape[-1], 1, name="project", **shared)
        gathered = jnp.concatenate(branches, axis=-1)
        if self.padded:
            gathered = jnp.pad(gathered, ((0, 0), (1, 1), (1, 1), (0, 0)))
        context = ops.resize_bilinear(project(gathered, train), shape, align_corners)
        fuse = ConvBN(self.channels, name="fuse", **shared)
        return ContextOutput(fuse(jnp.concatenate([stage, context], axis=-1), train))


def _build(
    model: ConfigDict, stages: Stages, num_classes: int, padded: bool = False, **shared: Any
) -> nn.Module:
    mask_size = (model.mask_size[0], model.mask_size[1])
    return PSAContext(stages.last, mask_size=mask_size, padded=padded, **shared)


BLOCK = ContextBlock("psanet", _build, pairs=lambda model: PixelPairs.TABLES)
PADDED = replace(BLOCK, build=partial(_build, padded=True), variant="mmsegmentation")
