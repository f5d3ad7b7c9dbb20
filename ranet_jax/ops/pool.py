"""Pooling to a grid of a given size."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ranet_jax.ops.checks import FLOATS, ArrayLike, as_arrays, positive_integer


def adaptive_average_pool(x: Float[ArrayLike, "*b h w c"], bins: int) -> Float[Array, "*b k k c"]:
    """Means over a grid of bins x bins cells, as computed by PyTorch's `AdaptiveAvgPool2d`.

    Cell i of an axis of n pixels goes from floor(i n / bins) up to ceil((i + 1) n / bins), so that
    cells may overlap: with 5 pixels, two cells hold pixels 0-2 and 2-4; with 2 pixels, three cells
    hold pixels 0, 0-1 and 1.

    Raises:
      ValueError: `x` has fewer than three axes, or `bins` is less than 1.
    """
    (x,) = as_arrays(x=(x, FLOATS, "... h w c"))
    bins = positive_integer("bins", bins)
    rows, columns = (jnp.asarray(_means(size, bins), x.dtype) for size in x.shape[-3:-1])
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("ih,jw,...hwc->...ijc", rows, columns, x, precision=precision)


def _means(size: int, bins: int) -> Float[np.ndarray, "k n"]:
    """Weight of each pixel of an axis in the mean of each cell."""
    weights = np.zeros((bins, size))
    for cell in range(bins):
        start, stop = cell * size // bins, -(-(cell + 1) * size // bins)
        weights[cell, start:stop] = 1 / (stop - start)
    return weights
