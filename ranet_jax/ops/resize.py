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


def nearest_indices(count: int, size: int) -> Int64[np.ndarray, " count"]:
    """Find the closest of `size` places to each of `count` along an axis, corners aligned.

    If two places are equally close, the larger is returned. 3 cells over 6 pixels lie at 0, 2.5
    and 5, which gives pixels 0, 3 and 5; 6 pixels over 3 cells lie in cells 0, 0, 1, 1, 2 and 2. A
    single place lies at 0.

    Raises:
      ValueError: a number of places is not positive.
    """
    count, size = positive_integer("count", count), positive_integer("size", size)
    steps = max(count - 1, 1)
    return (2 * np.arange(count, dtype=np.int64) * (size - 1) + steps) // (2 * steps)
