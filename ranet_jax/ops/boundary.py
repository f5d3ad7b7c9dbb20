"""Eq. 1: the largest boundary score on the segment between two pixels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ranet_jax.ops.checks import PROBABILITIES, ArrayLike, as_arrays


def segment_max(
    boundary: Float[ArrayLike, "h w"], end_points: bool = True
) -> Float[Array, "h*w h*w"]:
    """Find the largest boundary score between every two pixels (D of Eq. 1).

    A segment spanning s = max(|dy|, |dx|) pixels is sampled at t = 0 ... s, including both ends:
    one coordinate of a sample is then an integer, and scores are interpolated linearly along the
    other, between the two nearest pixels. The segment from a pixel to itself is that pixel. On a
    1 x 5 strip

        boundary   0.1  0.2  0.9  0.3  0.4

        D            0    1    2    3    4
              0    0.1  0.2  0.9  0.9  0.9
              1    0.2  0.2  0.9  0.9  0.9
              2    0.9  0.9  0.9  0.9  0.9
              3    0.9  0.9  0.9  0.3  0.4
              4    0.9  0.9  0.9  0.4  0.4

    Each segment is walked from its lower to its higher index, so the result is exactly
    symmetric. The gradient goes to the pixels of the first largest sample, weighted by the
    interpolation. Memory is O(n^2) in the forward and backward passes, n = h * w.

    Args:
      boundary: probability of a boundary at each pixel, in [0, 1].
      end_points: whether to sample the ends too. Without them, as in the authors' released code,
        the samples are t = 1 ... s - 1; neighbours (s <= 1) have no samples and get 0.

    Returns:
      D over row-major pixel indices, in [0, 1].

    Raises:
      ValueError: `boundary` is not two-dimensional, or does not hold probabilities.
    """
    (boundary,) = as_arrays(boundary=(boundary, PROBABILITIES, "h w"))
    pixels = jnp.arange(boundary.size, dtype=jnp.int32)
    start = jnp.minimum(pixels[:, None], pixels[None, :])
    end = jnp.maximum(pixels[:, None], pixels[None, :])
    return largest_between(boundary, start, end, end_points)


def largest_between(
    boundary: Float[Array, "h w"],
    start: Int[Array, "*pairs"],
    end: Int[Array, "*pairs"],
    end_points: bool = True,
) -> Float[Array, "*pairs"]:
    """The largest sample on each segment from a pixel `start` to a pixel `end` >= `start`."""
    height, width = boundary.shape
    dy, dx = end // width - start // width, end % width - start % width
    # A step along the longer axis changes the pixel index by `forward`, a step along the shorter
    # axis by `aside`; in `span` steps the segment moves `drift` pixels along the shorter axis.
    steep = jnp.abs(dy) >= jnp.abs(dx)
    span = jnp.maximum(jnp.abs(dy), jnp.abs(dx))
    drift = jnp.minimum(jnp.abs(dy), jnp.abs(dx))
    forward = jnp.where(steep, jnp.sign(dy) * width, jnp.sign(dx))
    aside = jnp.where(steep, jnp.sign(dx), jnp.sign(dy) * width)
    divisor = jnp.maximum(span, 1)

    def sample(scores: Array, t: Array) -> Array:
        """Interpolate the scores at step t of each segment, located in exact integers."""
        whole = jax.lax.div(t * drift, divisor)
        rest = t * drift - whole * divisor
        near = start + t * forward + whole * aside
        far = near + jnp.where(rest > 0, aside, 0)
        weight = rest.astype(scores.dtype) / divisor.astype(scores.dtype)
        # This is exact between two equal scores, so that all samples on a plateau tie.
        return scores[near] + weight * (scores[far] - scores[near])

    scores = boundary.reshape(-1)
    fixed = jax.lax.stop_gradient(scores)
    first = jnp.zeros_like(span) if end_points else jnp.minimum(1, span)
    last = span if end_points else jnp.maximum(span - 1, 0)

    def keep_larger(t: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        largest, step = best
        # A segment that has ended repeats its last sample, which is not larger than itself.
        here = jnp.minimum(t, last)
        value = sample(fixed, here)
        larger = value > largest
        return jnp.where(larger, value, largest), jnp.where(larger, here, step)

    # The search finds a step without gradient; interpolating again at that step has a gradient.
    longest = jnp.int32(max(height, width))
    best = (sample(fixed, first), first)
    _, step = jax.lax.fori_loop(jnp.int32(1), longest, keep_larger, best)
    largest = sample(scores, step)
    return largest if end_points else jnp.where(span > 1, largest, 0)
