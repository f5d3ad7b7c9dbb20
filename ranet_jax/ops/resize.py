"""Image resizing with the corner convention of segmentation networks."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int64

from ranet_jax.ops.checks import (
    FLOATS,
    ArrayLike,
    GridShape,
    as_arrays,
    grid_shape,
    positive_integer,
)


def resize_bilinear(
    x: Float[ArrayLike, "*b h w c"],
    shape: GridShape,
    align_corners: bool = True,
) -> Float[Array, "*b H W c"]:
    """Resize maps bilinearly so that the corner pixels stay in the corners (align corners).

    Output position o reads input position o * (in - 1) / (out - 1), as in PyTorch. An axis of
    size 1 is repeated, an axis resized to 1 keeps its first element, and an axis that keeps its
    size is left exactly as it is. There is no antialiasing. Interpolation uses at least float32.

    Args:
      x: maps of any float dtype; the result has the same dtype.
      shape: (H, W) in pixels, which may be symbols of `jax.export`.
      align_corners: if False, the outer edges of the corner pixels stay in place, and o reads
        (o + 1/2) * in / out - 1/2, or the closest pixel where that position is outside.

    Returns:
      The maps, resized to H x W.

    Raises:
      ValueError: `x` has fewer than three axes, or a size is not positive.
    """
    (x,) = as_arrays(x=(x, FLOATS, "... h w c"))
    sizes = grid_shape("shape", shape)

    if not align_corners:
        precise = x if x.dtype == jnp.float64 else x.astype(jnp.float32)
        whole = (*x.shape[:-3], *sizes, x.shape[-1])
        return jax.image.resize(precise, whole, "linear", antialias=False).astype(x.dtype)

    scaled = []
    for axis, size in zip((x.ndim - 3, x.ndim - 2), sizes, strict=True):
        if size == 1:
            x = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
        elif x.shape[axis] == 1:
            x = jnp.repeat(x, size, axis=axis)
        elif x.shape[axis] != size:
            scaled.append((axis, size))
    if not scaled:
        return x

    precise = x if x.dtype == jnp.float64 else x.astype(jnp.float32)
    scale = jnp.array([(size - 1) / (x.shape[axis] - 1) for axis, size in scaled], precise.dtype)
    resized = jax.image.scale_and_translate(
        precise,
        (*x.shape[:-3], *sizes, x.shape[-1]),
        tuple(axis for axis, _ in scaled),
        scale,
        # scale_and_translate counts from the outer edges of pixels, half a pixel further out.
        (1 - scale) / 2,
        method="linear",
        antialias=False,
    )
    return resized.astype(x.dtype)


def nearest_indices(
    count: int, size: int, align_corners: bool = True
) -> Int64[np.ndarray, " count"]:
    """Find the closest of `size` places to each of `count` along an axis, as maps are resized.

    If two places are equally close, the larger is returned. With aligned corners, 3 cells over 6
    pixels lie at 0, 2.5 and 5, which gives pixels 0, 3 and 5; 6 pixels over 3 cells lie in cells
    0, 0, 1, 1, 2 and 2. A single place lies at 0. Without, 3 cells lie at 0.5, 2.5 and 4.5, which
    gives pixels 1, 3 and 5, and a single place lies in the middle.

    Raises:
      ValueError: a number of places is not positive.
    """
    count, size = positive_integer("count", count), positive_integer("size", size)
    places = np.arange(count, dtype=np.int64)
    if not align_corners:
        return (2 * places + 1) * size // (2 * count)
    steps = max(count - 1, 1)
    return (2 * places * (size - 1) + steps) // (2 * steps)


def nearest_grid(
    shape: tuple[int, int], size: tuple[int, int], align_corners: bool = True
) -> tuple[Int64[np.ndarray, "h 1"], Int64[np.ndarray, "1 w"]]:
    """Find the closest of H x W places to each place of an h x w grid, with `nearest_indices`.

    The result is an index: `labels[nearest_grid((h, w), labels.shape)]` are the labels at the
    places of a feature grid, and `regions[nearest_grid((H, W), regions.shape)]` gives each pixel of
    an image its region.

    Args:
      shape: numbers of places (h, w) that the result has.
      size: numbers of places (H, W) to choose from.
      align_corners: whether the corners of both grids coincide, or else their outer edges.

    Raises:
      ValueError: a number of places is not positive.
    """
    rows, columns = (
        nearest_indices(count, pixels, align_corners)
        for count, pixels in zip(grid_shape("shape", shape), grid_shape("size", size), strict=True)
    )
    return rows[:, None], columns[None]
