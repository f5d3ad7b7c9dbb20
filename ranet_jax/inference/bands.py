"""Sliding windows over the rows of an image that is never in memory as a whole.

The windows are those of `windows.slide`, in the same groups and added in the same order, so that
the probabilities are the same numbers. Only a band of them, as high as a window, is in memory.
"""

from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.inference.windows import window_corners, window_groups
from ranet_jax.pipeline.images import ImageRows

# The approximate number of probabilities in a block of rows.
BLOCK_VALUES = 2**24

Normalize = Callable[[UInt8[np.ndarray, "h w 3"]], Float32[np.ndarray, "h w 3"]]


def probability_rows(
    predict: Callable[[Array], Float[Array, "b h w c"]],
    image: ImageRows,
    normalize: Normalize,
    settings: InferenceSettings,
) -> Iterator[Float32[np.ndarray, "_ _ c"]]:
    """Probabilities averaged over windows and, if the settings flip, mirror images.

    Args:
      predict: maps normalised windows [b, h, w, 3] to their probabilities [b, h, w, c].
      image: the rows of the image.
      normalize: maps pixels [h, w, 3] to what the network sees, in float32.
      settings: windows and flip; mode and scales have no effect.

    Returns:
      Blocks of whole rows [rows, W, c], from top to bottom.
    """
    shape, crop = (image.height, image.width), settings.crop_size
    band = _Band(image, crop[0])
    views = (False, True) if settings.flip else (False,)
    sums = [_Sums(image.width, crop) for _ in views]
    first = 0
    corners = window_corners(shape, crop, settings.stride_ratio)
    for group in window_groups(corners, settings.window_batch):
        windows: list[list[np.ndarray]] = [[] for _ in views]
        for top, left in group:
            rows = band.at(top)
            for seen, mirrored in zip(windows, views, strict=True):
                view = rows[:, ::-1] if mirrored else rows
                seen.append(_window(view[:, left : left + crop[1]], crop, normalize))
        maps = [np.asarray(predict(jnp.asarray(np.stack(seen)))) for seen in windows]
        for number, (top, left) in enumerate(group):
            if top > first:
                yield from _averages(sums, top - first, image.width)
                first = top
            for total, parts in zip(sums, maps, strict=True):
                total.add(left, parts[number])
    yield from _averages(sums, image.height - first, image.width)


class _Band:
    """A band of an image's rows, as high as a window, that moves from top to bottom."""

    def __init__(self, image: ImageRows, height: int):
        self._blocks = image.blocks
        self._rows = np.zeros((min(height, image.height), image.width, 3), np.uint8)
        self._top, self._bottom = 0, 0
        self._rest = self._rows[:0]  # unused rows of the last block

    def at(self, top: int) -> UInt8[np.ndarray, "rows width 3"]:
        """The rows from `top` on; `top` must not be smaller than in the call before."""
        kept = self._bottom - top
        self._rows[:kept] = self._rows[top - self._top :][:kept].copy()
        self._top = top
        while self._bottom < top + len(self._rows):
            if not len(self._rest):
                self._rest = next(self._blocks)
            start = self._bottom - top
            taken = min(len(self._rest), len(self._rows) - start)
            self._rows[start : start + taken] = self._rest[:taken]
            self._rest = self._rest[taken:]
            self._bottom += taken
        return self._rows


def _window(
    pixels: UInt8[np.ndarray, "rows columns 3"], crop: tuple[int, int], normalize: Normalize
) -> Float32[np.ndarray, "h w 3"]:
    """A normalised window, padded at the bottom and right with zeros, the mean colour."""
    bottom, right = (size - found for size, found in zip(crop, pixels.shape[:2], strict=True))
    return np.pad(normalize(pixels), ((0, bottom), (0, right), (0, 0)))


class _Sums:
    """Sums of probabilities, and numbers of windows, over a band as high as a window."""

    def __init__(self, width: int, crop: tuple[int, int]):
        self._cover = np.zeros((crop[0], max(width, crop[1]), 1), np.float32)
        self._total = self._cover  # until the number of classes is known

    def add(self, left: int, part: Float32[np.ndarray, "h w c"]) -> None:
        """Add a window whose first column is `left`."""
        if self._total is self._cover:
            self._total = np.zeros((*self._cover.shape[:2], part.shape[-1]), np.float32)
        self._total[:, left : left + part.shape[1]] += part
        self._cover[:, left : left + part.shape[1]] += 1

    @property
    def row_values(self) -> int:
        """The number of sums in one row."""
        return self._total[0].size

    def mean(self, rows: slice, width: int) -> Float32[np.ndarray, "rows width c"]:
        """Averages over the windows."""
        return self._total[rows, :width] * (1 / self._cover[rows, :width])

    def advance(self, count: int) -> None:
        """Drop the first rows and take in as many new ones."""
        for sums in (self._total, self._cover):
            for row in range(len(sums) - count):
                sums[row] = sums[row + count]
            sums[len(sums) - count :] = 0


def _averages(
    sums: Sequence[_Sums], count: int, width: int
) -> Iterator[Float32[np.ndarray, "_ _ c"]]:
    """Blocks of the first `count` rows, which are complete; then the band moves on by as many."""
    step = max(1, BLOCK_VALUES // sums[0].row_values)
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        mean = sums[0].mean(rows, width)
        if len(sums) == 2:
            mean = (mean + sums[1].mean(rows, width)[:, ::-1]) / np.float32(2)
        yield mean
    for total in sums:
        total.advance(count)
