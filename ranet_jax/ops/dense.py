"""Eqs. 1-5 in a row, equation by equation, with their tables of all pairs of pixels."""

from jaxtyping import Array, Float, Int

from ranet_jax.ops.boundary import segment_max
from ranet_jax.ops.regions import (
    partition,
    region_attention,
    region_decision,
    regularize,
    representative_score,
)
from ranet_jax.ops.semantic import jensen_shannon
from ranet_jax.ops.shapes import check_shapes


def region_map(
    boundary: Float[Array, "h w"],
    probabilities: Float[Array, "h w c"],
    kernel: Float[Array, "k k"],
    threshold: float,
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Divide the pixels into regions and score them, as `streaming.region_map` does.

    For tests, study and kernels of any size. It holds some twenty tables of n x n, n = h * w:
    354 MB each for the 97 x 97 features of a 769 x 769 crop.

    Args:
      boundary: probability of a boundary at each pixel, in [0, 1].
      probabilities: category distribution of each pixel, its entries summing to 1.
      kernel: W^g of Eq. 4, of odd size.
      threshold: tau of Eq. 4, in [0, 1].

    Returns:
      The root pixel of each pixel's region, and the score J of each pixel, in [0, 1]; both over
      row-major pixel indices.

    Raises:
      ValueError: the maps differ in size, or the kernel is even or not square.
    """
    sizes = check_shapes(
        boundary=(boundary, "h w"), probabilities=(probabilities, "h w c"), kernel=(kernel, "k k")
    )
    attention = region_attention(
        segment_max(boundary), jensen_shannon(probabilities.reshape(-1, sizes["c"]))
    )
    attention = regularize(attention, kernel, (sizes["h"], sizes["w"]))
    labels = partition(region_decision(attention, threshold))
    return labels, representative_score(attention, labels)
