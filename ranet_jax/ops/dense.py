"""Eqs. 1-5 computed one equation after another, with their tables of all pairs of pixels."""

from jaxtyping import Array, Float, Int

from ranet_jax.ops.boundary import segment_max
from ranet_jax.ops.checks import (
    DISTRIBUTIONS,
    FLOATS,
    PROBABILITIES,
    ArrayLike,
    as_arrays,
    check_number,
)
from ranet_jax.ops.regions import (
    partition,
    region_attention,
    region_decision,
    regularize,
    representative_score,
)
from ranet_jax.ops.semantic import jensen_shannon


def region_map(
    boundary: Float[ArrayLike, "h w"],
    probabilities: Float[ArrayLike, "h w c"],
    kernel: Float[ArrayLike, "k k"],
    threshold: float | Float[Array, ""],
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Divide the pixels into regions and score them, as `streaming.region_map` does.

    Use it for tests, for study and for kernels of any size. It holds about twenty n x n tables,
    n = h * w, of 354 MB each for the 97 x 97 features of a 769 x 769 crop.

    Args:
      boundary: probability of a boundary at each pixel, in [0, 1].
      probabilities: category distribution of each pixel, whose entries sum to 1. To convert rows
        [n, c], as used by `jensen_shannon`, call `rows.reshape(h, w, c)`; to convert back,
        `probabilities.reshape(-1, c)`.
      kernel: W^g of Eq. 4, of odd size.
      threshold: tau of Eq. 4, in [0, 1].

    Returns:
      The root pixel of each pixel's region, and the score J of each pixel, in [0, 1]; both over
      row-major pixel indices.

    Raises:
      ValueError: the maps differ in size or do not hold probabilities, or the kernel is even or
        not square.
    """
    boundary, probabilities, kernel = as_arrays(
        boundary=(boundary, PROBABILITIES, "h w"),
        probabilities=(probabilities, DISTRIBUTIONS, "h w c"),
        kernel=(kernel, FLOATS, "k k"),
    )
    check_number("threshold", threshold)
    attention = region_attention(
        segment_max(boundary), jensen_shannon(probabilities.reshape(-1, probabilities.shape[-1]))
    )
    height, width = boundary.shape
    attention = regularize(attention, kernel, (height, width))
    labels = partition(region_decision(attention, threshold))
    return labels, representative_score(attention, labels)
