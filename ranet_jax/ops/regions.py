"""Eqs. 3-5: from pairwise attention to regions, scores and representative pixels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer

from ranet_jax.ops.checks import (
    BOOLS,
    FLOATS,
    INTEGERS,
    PIXELS,
    ArrayLike,
    as_arrays,
    check_number,
    check_shapes,
    grid_shape,
    positive_integer,
)

# Scores are rounded to this step when representatives are chosen, so that rounding noise does not
# break ties.
SCORE_STEP = 2.0**-16


class Representatives(NamedTuple):
    """The pixels that represent each region: Q slots of K places.

    `roots` holds the region of each slot (-1: the slot is empty), `indices` its pixels, and
    `valid` tells which places are filled; an empty place has index 0.
    """

    roots: Int[Array, "*b q"]
    indices: Int[Array, "*b q k"]
    valid: Bool[Array, "*b q k"]


def region_attention(
    crossing: Float[ArrayLike, "n n"], divergence: Float[ArrayLike, "n n"]
) -> Float[Array, "n n"]:
    """Compute the attention of pixel pairs, F = (1 - D)(1 - E) (Eq. 3).

    Args:
      crossing: D, the largest boundary score between two pixels, in [0, 1].
      divergence: E, their semantic dissimilarity, in [0, 1].

    Returns:
      F, in [0, 1]; large where no boundary separates two pixels of one category.

    Raises:
      ValueError: the two tables differ in shape or are not square.
    """
    crossing, divergence = as_arrays(
        crossing=(crossing, FLOATS, "n n"), divergence=(divergence, FLOATS, "n n")
    )
    return (1 - crossing) * (1 - divergence)


def regularize(
    attention: Float[ArrayLike, "n n"], kernel: Float[ArrayLike, "k k"], shape: tuple[int, int]
) -> Float[Array, "n n"]:
    """Filter each pixel's attention map, F^g = W^g (*) F (Eq. 4), and clip it to [0, 1].

    Row i of `attention`, seen as an h x w map, is cross-correlated with the kernel, with zero
    padding. The clip has gradient 1 on all of [0, 1], both bounds included, and 0 outside:
    attention may be exactly 1, and the kernel must still get a gradient from it.

    Args:
      attention: F.
      kernel: W^g, of odd size; [[1]] leaves F as it is.
      shape: (h, w) of the feature grid, with h * w = n.

    Returns:
      F^g, in [0, 1].

    Raises:
      ValueError: the kernel is even or not square, or `shape` does not hold n pixels.
    """
    attention, kernel = as_arrays(
        attention=(attention, FLOATS, "n n"), kernel=(kernel, FLOATS, "k k")
    )
    n, k = attention.shape[0], kernel.shape[0]
    height, width = grid_shape("shape", shape)
    if k % 2 == 0:
        raise ValueError(f"kernel must have an odd size, but is {k} x {k}")
    if height * width != n:
        raise ValueError(f"shape {shape} does not hold the {n} pixels of attention")

    # Shifted sums rather than a convolution: exact float32 on every accelerator, and faster than
    # n convolutions of one channel.
    reach = k // 2
    maps = jnp.pad(attention.reshape(n, height, width), ((0, 0), (reach, reach), (reach, reach)))
    filtered = jnp.zeros((n, height, width), attention.dtype)
    for a in range(k):
        for b in range(k):
            filtered += kernel[a, b] * maps[:, a : a + height, b : b + width]
    filtered = filtered.reshape(n, n)
    return jnp.where(filtered < 0, 0, jnp.where(filtered > 1, 1, filtered))


def region_decision(
    attention: Float[ArrayLike, "n n"], threshold: float | Float[Array, ""]
) -> Bool[Array, "n n"]:
    """Decide which pixel pairs belong together, G_ij = [(F^g_ij + F^g_ji) / 2 > tau] (Eq. 4).

    The result is symmetric and has no gradient. With tau = 0.8:

        F^g     0    1    2          G    0  1  2
          0  1.00 0.90 0.85          0    1  1  0
          1  0.75 1.00 0.60          1    1  1  0
          2  0.70 0.60 1.00          2    0  0  1

    Args:
      attention: F^g, in [0, 1].
      threshold: tau, in [0, 1].

    Raises:
      ValueError: `attention` is not a square table.
    """
    (attention,) = as_arrays(attention=(attention, FLOATS, "n n"))
    check_number("threshold", threshold)
    attention = jax.lax.stop_gradient(attention)
    return (attention + attention.T) / 2 > threshold


def partition(decision: Bool[ArrayLike, "n n"]) -> Int[Array, " n"]:
    """Divide the pixels into regions by the decisions G (the end of Sec. 3.1).

    Each pixel j points at the smallest i <= j with G_ji = 1, or at itself if there is none;
    following the pointers to their end gives the region's root. G is not transitive: in the
    example, G does not link pixel 3 to pixel 0, but pixel 3 reaches pixel 0 through pixel 2.

        G     0  1  2  3  4     points at   label
          0   1  0  1  0  0         0         0
          1   0  1  0  0  1         1         1
          2   1  0  1  1  0         0         0
          3   0  0  1  1  0         2         0
          4   0  1  0  0  1         1         1

    Regions are discrete, so there is no gradient.

    Args:
      decision: G, symmetric.

    Returns:
      The index of the root pixel of each pixel's region.

    Raises:
      ValueError: `decision` is not a square table.
    """
    (decision,) = as_arrays(decision=(decision, BOOLS, "n n"))
    n = decision.shape[0]
    pixels = jnp.arange(n, dtype=jnp.int32)
    earlier = decision & (pixels[None, :] < pixels[:, None])
    smallest = jnp.argmax(earlier, axis=1).astype(jnp.int32)
    return follow_pointers(jnp.where(jnp.any(earlier, axis=1), smallest, pixels))


def follow_pointers(pointers: Int[Array, " n"]) -> Int[Array, " n"]:
    """Follow pointers, each to an index no larger than its own, until they stop changing.

    Every jump doubles the distance, so ceil(log2 n) jumps reach every root.

    Raises:
      ValueError: `pointers` is not one-dimensional.
    """
    n = check_shapes(pointers=(pointers, "n"))["n"]
    for _ in range((n - 1).bit_length()):
        pointers = pointers[pointers]
    return pointers


def representative_score(
    attention: Float[ArrayLike, "n n"], labels: Integer[ArrayLike, " n"]
) -> Float[Array, " n"]:
    """Compute J_i, the mean of F^g_ij over the pixels j of i's region, i included (Eq. 5).

    Args:
      attention: F^g, in [0, 1].
      labels: region label of each pixel.

    Returns:
      J, in [0, 1].

    Raises:
      ValueError: the arguments disagree about n.
    """
    attention, labels = as_arrays(
        attention=(attention, FLOATS, "n n"), labels=(labels, INTEGERS, "n")
    )
    together = labels[:, None] == labels[None, :]
    total = jnp.sum(jnp.where(together, attention, 0), axis=1)
    return total / jnp.sum(together, axis=1).astype(attention.dtype)


def select_representatives(
    score: Float[ArrayLike, " n"],
    labels: Integer[ArrayLike, " n"],
    num_regions: int,
    per_region: int,
) -> Representatives:
    """Give the Q largest regions a slot each, and choose the K pixels of largest J in each.

    Ties go to the smaller root and to the smaller pixel index. For this choice only, J is rounded
    to 2^-16, so that rounding noise does not break ties. There is no gradient. With Q = 3, K = 2:

        pixel     0    1    2    3    4         roots   indices   valid
        label     0    1    0    0    1           0      2  3     1  1
        score    0.5  0.7  0.9  0.8  0.7          1      1  4     1  1
                                                 -1      0  0     0  0

    Args:
      score: J, in [0, 1].
      labels: region label of each pixel, in [0, n).
      num_regions: Q, which may exceed the number of regions, and also n.
      per_region: K, which may exceed the size of a region, and also n.

    Returns:
      Slots in order of decreasing region size, places in order of decreasing score.

    Raises:
      ValueError: the arguments disagree about n, a label is outside of [0, n), or Q or K is not
        positive.
    """
    score, labels = as_arrays(score=(score, FLOATS, "n"), labels=(labels, PIXELS, "n"))
    n = score.shape[0]
    num_regions = positive_integer("num_regions", num_regions)
    per_region = positive_integer("per_region", per_region)
    area = jnp.zeros(n, jnp.int32).at[labels].add(1)
    size, root = jax.lax.top_k(area, min(num_regions, n))
    roots = jnp.where(size > 0, root, -1).astype(jnp.int32)

    rounded = jnp.round(jax.lax.stop_gradient(score) / SCORE_STEP)
    members = labels[None, :] == roots[:, None]
    ranking = jnp.where(members, rounded[None, :], -jnp.inf)
    best, indices = jax.lax.top_k(ranking, min(per_region, n))
    valid = best > -jnp.inf
    indices = jnp.where(valid, indices, 0).astype(jnp.int32)

    slots = (0, num_regions - roots.shape[0])
    places = (0, per_region - indices.shape[1])
    return Representatives(
        jnp.pad(roots, slots, constant_values=-1),
        jnp.pad(indices, (slots, places)),
        jnp.pad(valid, (slots, places)),
    )
