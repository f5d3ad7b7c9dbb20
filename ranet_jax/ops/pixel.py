"""Eqs. 1-4 for one pixel: its row of each table of pairs, computed without the tables."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ranet_jax.ops.boundary import largest_between
from ranet_jax.ops.checks import (
    DISTRIBUTIONS,
    FLOATS,
    PROBABILITIES,
    ArrayLike,
    as_arrays,
    index_below,
)
from ranet_jax.ops.semantic import divergence_from


class PixelAttention(NamedTuple):
    """One pixel compared with all pixels: D (Eq. 1), E (Eq. 2), F (Eq. 3) and results of Eq. 4.

    `filtered` is F^g_ij. `linking` is (F^g_ij + F^g_ji) / 2; it links two pixels where it exceeds
    the threshold.
    """

    crossing: Float[Array, " n"]
    divergence: Float[Array, " n"]
    attention: Float[Array, " n"]
    filtered: Float[Array, " n"]
    linking: Float[Array, " n"]


class SegmentSamples(NamedTuple):
    """The samples of Eq. 1 on the segment between two pixels, both ends included.

    `positions` are (row, column) in pixels, at least one of which is an integer; `scores` are the
    boundary scores there.
    """

    positions: Float[np.ndarray, "samples 2"]
    scores: Float[np.ndarray, " samples"]


def pixel_attention(
    boundary: Float[ArrayLike, "h w"],
    probabilities: Float[ArrayLike, "h w c"],
    kernel: Float[ArrayLike, "k k"],
    pixel: Any,
) -> PixelAttention:
    """Row i of D, E, F and F^g (Eqs. 1-4), for one pixel i.

    They equal the rows of `segment_max`, `jensen_shannon`, `region_attention` and `regularize`.
    Time is O(k^2 n (c + max(h, w))), and memory O(k^2 n).

    Args:
      boundary: probability of a boundary at each pixel, in [0, 1].
      probabilities: category distribution of each pixel, whose entries sum to 1.
      kernel: W^g of Eq. 4, of odd size.
      pixel: i, an integer in [0, n), n = h * w; it may be traced.

    Raises:
      ValueError: the maps differ in size or do not hold probabilities, or the kernel is even or
        not square, or there is no such pixel.
    """
    boundary, probabilities, kernel = as_arrays(
        boundary=(boundary, PROBABILITIES, "h w"),
        probabilities=(probabilities, DISTRIBUTIONS, "h w c"),
        kernel=(kernel, FLOATS, "k k"),
    )
    (height, width), size = boundary.shape, kernel.shape[0]
    if size % 2 == 0:
        raise ValueError(f"kernel must have an odd size, but is {size} x {size}")
    pixels = jnp.arange(height * width, dtype=jnp.int32)
    distributions = probabilities.reshape(height * width, -1)

    def rows(i: Array) -> tuple[Array, Array, Array]:
        start, end = jnp.minimum(i, pixels), jnp.maximum(i, pixels)
        crossing = largest_between(boundary, start, end)
        divergence = divergence_from(distributions[i], distributions)
        return crossing, divergence, (1 - crossing) * (1 - divergence)

    pixel = jnp.asarray(index_below("pixel", pixel, height * width), jnp.int32)
    crossing, divergence, attention = rows(pixel)

    # F^g_i: the attention map of i under the kernel.
    reach = size // 2
    padded = jnp.pad(attention.reshape(height, width), reach)
    # F^g_ji for all j: F is symmetric, so the entries of F_j that the kernel covers at i are found
    # in the rows of F for i and its neighbours.
    filtered, reverse = jnp.zeros((height, width), attention.dtype), jnp.zeros_like(attention)
    for a in range(size):
        for b in range(size):
            filtered += kernel[a, b] * padded[a : a + height, b : b + width]
            if a == b == reach:  # the pixel's own row, which is already computed
                reverse += kernel[a, b] * attention
                continue
            row, column = pixel // width + a - reach, pixel % width + b - reach
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            met = rows(jnp.where(inside, row * width + column, 0))[2]
            reverse += jnp.where(inside, kernel[a, b] * met, 0)
    filtered = jnp.clip(filtered.reshape(-1), 0, 1)
    linking = (filtered + jnp.clip(reverse, 0, 1)) / 2
    return PixelAttention(crossing, divergence, attention, filtered, linking)


def segment_samples(boundary: Float[ArrayLike, "h w"], first: int, second: int) -> SegmentSamples:
    """The samples of Eq. 1 between two pixels, from the pixel of smaller index to the other.

    `segment_max` takes the largest sample, or the first of several equal ones.

        boundary   0.1  0.3        pixels 0 and 5     positions   scores
                   0.9  0.5                             0   0        0.1
                   0.2  0.4                             1   0.5      0.7
                                                        2   1        0.4

    Args:
      boundary: probability of a boundary at each pixel, in [0, 1].
      first: a pixel, in [0, n), n = h * w.
      second: another pixel, or the same.

    Raises:
      ValueError: `boundary` is not two-dimensional, or does not hold probabilities, or there is no
        such pixel.
    """
    (boundary,) = as_arrays(boundary=(boundary, PROBABILITIES, "h w"))
    scores = np.asarray(jax.device_get(boundary))
    first = index_below("first", first, scores.size)
    second = index_below("second", second, scores.size)
    start, end = (np.array(divmod(i, scores.shape[1])) for i in sorted((first, second)))
    distance, direction = np.abs(end - start), np.sign(end - start)
    span = distance.max()
    steps = np.arange(span + 1)[:, None]
    whole, rest = np.divmod(steps * distance, max(span, 1))
    near = start + direction * whole
    far = near + direction * (rest > 0)
    offset = rest / max(span, 1)
    weight = offset.max(axis=1).astype(scores.dtype)  # along the longer axis the offset is 0
    values = scores[tuple(near.T)]
    values = values + weight * (scores[tuple(far.T)] - values)
    return SegmentSamples((near + direction * offset).astype(np.float32), values)
