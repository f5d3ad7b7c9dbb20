"""Sliding windows over images of any size."""

import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Predict = Callable[[Array], dict[str, Array]]


def window_starts(size: int, crop: int, stride_ratio: float) -> list[int]:
    """First pixels of the windows along one axis, the last shifted inside the image.

    Windows are `ceil(crop * stride_ratio)` pixels apart: for 10 pixels, a crop of 4 and a ratio of
    3/4, they start at 0, 3 and 6. An image no larger than the crop has one window.
    """
    stride = math.ceil(crop * stride_ratio - 1e-6)
    last = max(size - crop, 0)
    return [min(start, last) for start in range(0, last + stride, stride)]


def window_corners(
    shape: tuple[int, int], crop_size: tuple[int, int], stride_ratio: float
) -> list[tuple[int, int]]:
    """First rows and columns of the windows of an image, one row of windows after another."""
    rows, columns = (
        window_starts(size, crop, stride_ratio) for size, crop in zip(shape, crop_size, strict=True)
    )
    return [(top, left) for top in rows for left in columns]


def slide(
    predict: Predict,
    images: Float[Array, "b H W 3"],
    crop_size: tuple[int, int],
    stride_ratio: float,
    window_batch: int,
) -> dict[str, Float[Array, "b H W _"]]:
    """Probabilities averaged over windows, which all have the crop's size.

    Args:
      predict: maps images [b, h, w, 3] to probabilities [b, h, w, c] by name.
      images: normalised; those smaller than the crop are padded at the bottom and right with
        zeros, the mean colour.
      crop_size: (h, w) of a window.
      stride_ratio: distance between two windows, in crops.
      window_batch: the most windows of one pass (or one of each image, if that is more).
    """
    batch, height, width, _ = images.shape
    crop_height, crop_width = crop_size
    bottom, right = max(crop_height - height, 0), max(crop_width - width, 0)
    padded = jnp.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)))
    corners = window_corners((height, width), crop_size, stride_ratio)

    cover = np.zeros((1, *padded.shape[1:3], 1), np.float32)
    totals: dict[str, Array] = {}
    for group in window_groups(corners, max(1, window_batch // batch)):
        windows = [_window(padded, corner, crop_size) for corner in group]
        for name, maps in predict(jnp.concatenate(windows)).items():
            if name not in totals:
                totals[name] = jnp.zeros((*padded.shape[:3], maps.shape[-1]), jnp.float32)
            for corner, part in zip(group, jnp.split(maps, len(group)), strict=True):
                totals[name] = _add_window(totals[name], part, corner)
        for top, left in group:
            cover[:, top : top + crop_height, left : left + crop_width] += 1
    share = 1 / cover  # on the host, since XLA divides in different ways
    return {name: (total * share)[:, :height, :width] for name, total in totals.items()}


def window_groups(corners: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """Groups of `size` windows, then the rest one by one: two shapes to compile for at most."""
    full = len(corners) // size * size
    for start in range(0, full, size):
        yield corners[start : start + size]
    for corner in corners[full:]:
        yield [corner]


@functools.partial(jax.jit, static_argnames="crop_size")
def _window(
    images: Array, corner: tuple[Array | int, Array | int], crop_size: tuple[int, int]
) -> Array:
    top, left = corner
    sizes = (images.shape[0], *crop_size, images.shape[3])
    return jax.lax.dynamic_slice(images, (0, top, left, 0), sizes)


@jax.jit
def _add_window(total: Array, part: Array, corner: tuple[Array | int, Array | int]) -> Array:
    top, left = corner
    place = (0, top, left, 0)
    covered = jax.lax.dynamic_slice(total, place, part.shape)
    return jax.lax.dynamic_update_slice(total, covered + part, place)
