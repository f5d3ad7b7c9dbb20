"""Training targets made from label maps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from ranet_jax.ops.checks import (
    INTEGERS,
    ArrayLike,
    as_arrays,
    check_number,
    grid_shape,
    whole_number,
)
from ranet_jax.ops.resize import nearest_indices


def boundary_target(
    labels: Integer[ArrayLike, "h w"], ignore_label: int = 255, radius: float = 2.0
) -> Bool[Array, "h w"]:
    """Mark the pixels close to a pixel of another category.

    A pixel is a boundary pixel if a pixel of another category lies within the Euclidean distance
    `radius`. Ignored pixels have no category: they are not boundary pixels and do not make other
    pixels boundary pixels. With radius 1:

        labels            target
        0  0  0  1        .  .  x  x
        0  0  1  1        .  x  x  .
        0  0  ?  1        .  .  .  .
        0  0  ?  1        .  .  .  .

    Args:
      labels: category of each pixel, of any integer dtype.
      ignore_label: the value of ignored pixels.
      radius: largest distance to a pixel of another category, in pixels.

    Returns:
      True at boundary pixels.

    Raises:
      ValueError: `labels` is not two-dimensional, or `radius` is negative.
    """
    (labels,) = as_arrays(labels=(labels, INTEGERS, "h w"))
    ignore_label = whole_number("ignore_label", ignore_label)
    check_number("radius", radius)
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius must be finite and not negative, but is {radius}")
    (height, width), reach = labels.shape, int(radius)
    labels = labels.astype(jnp.int32)
    padded = jnp.pad(labels, reach, constant_values=ignore_label)

    near_other = jnp.zeros((height, width), bool)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if 0 < dy**2 + dx**2 <= radius**2:
                rows = slice(reach + dy, reach + dy + height)
                columns = slice(reach + dx, reach + dx + width)
                neighbour = padded[rows, columns]
                near_other |= (neighbour != labels) & (neighbour != ignore_label)
    return near_other & (labels != ignore_label)


def boundary_cells(
    labels: Integer[ArrayLike, "H W"],
    shape: tuple[int, int],
    ignore_label: int = 255,
    radius: float = 1.0,
    align_corners: bool = True,
) -> tuple[Bool[Array, "h w"], Float[Array, "h w"]]:
    """Mark the feature pixels whose cell of the label map holds a boundary.

    The corners of both grids coincide, and the cell of a feature pixel is the set of label pixels
    closest to it. A cell holds a boundary if `boundary_target` marks one of its pixels. With
    radius 1 these are the pixels on both sides of every border between categories, so that the
    marked cells separate the categories without a gap. On a 2 x 3 feature grid:

        labels            boundary    labelled
        0  0  0  1  1     .  x  x     2  4  4
        0  0  0  1  1     .  x  x     2  4  4
        0  0  0  1  1
        0  0  0  1  1

    Args:
      labels: category of each pixel, of any integer dtype.
      shape: (h, w) of the feature grid.
      ignore_label: the value of ignored pixels.
      radius: the radius for `boundary_target`, in label pixels.
      align_corners: if False, the outer edges of both grids coincide instead, so that all cells
        have the same size if the sides of the label map are multiples of those of the grid.

    Returns:
      Whether each cell holds a boundary, and how many labelled pixels it has; a cell without
      labelled pixels holds no boundary.

    Raises:
      ValueError: `labels` is not two-dimensional, `radius` is negative, or `shape` is not positive.
    """
    (labels,) = as_arrays(labels=(labels, INTEGERS, "H W"))
    shape = grid_shape("shape", shape)
    boundary = boundary_target(labels, ignore_label, radius)
    rows, columns = (
        _cell_members(cells, size, align_corners)
        for cells, size in zip(shape, labels.shape, strict=True)
    )

    def sum_cells(mask: Array) -> Array:
        product = jnp.einsum(
            "hH,HW,wW->hw",
            rows,
            mask.astype(jnp.float32),
            columns,
            precision=jax.lax.Precision.HIGHEST,
        )
        return jnp.round(product)

    return sum_cells(boundary) > 0, sum_cells(labels != ignore_label)


def _cell_members(cells: int, size: int, align_corners: bool) -> Float[np.ndarray, "cells size"]:
    """1 where a pixel of an axis lies closest to a cell's centre, else 0."""
    closest = nearest_indices(size, cells, align_corners)
    return (closest[None] == np.arange(cells)[:, None]).astype(np.float32)
