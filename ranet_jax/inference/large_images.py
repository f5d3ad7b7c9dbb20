"""Prediction of image files that are too large to be in memory as a whole."""

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ranet_jax.display.progress import Bar, Lines, track
from ranet_jax.files import replacing
from ranet_jax.files.paths import Path
from ranet_jax.inference.label_png import save_label_rows
from ranet_jax.inference.model import Model
from ranet_jax.inference.pictures import overlay_with_legend
from ranet_jax.pipeline.images import open_rows

# The most pixels on the longer side of an overlay.
OVERLAY_SIDE = 4096


def predict_large_file(
    model: Model, path: pathlib.Path, targets: dict[str, Path], alpha: float
) -> None:
    """Segment an image file in windows, and write its labels and an overlay of reduced size.

    The labels are those of `Model.predict` with sliding windows. Only a band of the probabilities
    and of the labels is in memory, and only a band of the image if `open_rows` decodes on demand.

    Args:
      model: its settings give the windows.
      path: the image.
      targets: files of the "labels" and of the "overlay".
      alpha: opacity of the labels over the image.

    Raises:
      UserError: the image cannot be read, memory is too small, or the settings have scales.
      OSError: a picture cannot be written.
    """
    image, labels = _write_labels(model, path, targets["labels"])
    overlay = overlay_with_legend(image, labels, model.dataset, alpha)
    with replacing(targets["overlay"]) as partial:
        overlay.save(partial, format="PNG")


def _write_labels(
    model: Model, path: Path, target: Path
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Write the labels of an image file; return image and labels at the size of the overlay."""
    with open_rows(path) as rows:
        shape = (rows.height, rows.width)
        factor = -(-max(shape) // OVERLAY_SIDE)
        image, labels = _Shrunk(factor), _Thinned(factor)
        seen = dataclasses.replace(rows, blocks=image.watch(rows.blocks))
        with (
            track(total=rows.height, unit="row", desc="segment", leave=None) as bar,
            replacing(target) as partial,
        ):
            blocks = labels.watch(model.predict_rows(seen))
            save_label_rows(partial, _counted(blocks, bar), shape, model.dataset.palette)
    return image.picture, labels.picture


def _counted(
    blocks: Iterator[UInt8[np.ndarray, "_ _"]], bar: Bar | Lines
) -> Iterator[UInt8[np.ndarray, "_ _"]]:
    for block in blocks:
        yield block
        bar.update(len(block))


class _Shrunk:
    """A picture of an image whose rows pass by: each pixel is the mean of a square of pixels."""

    def __init__(self, factor: int):
        self._factor = factor
        self._parts: list[np.ndarray] = []
        self._rest = np.zeros((0, 0, 3), np.uint8)

    def watch(
        self, blocks: Iterator[UInt8[np.ndarray, "_ _ 3"]]
    ) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Pass the blocks on unchanged."""
        for block in blocks:
            rows = np.concatenate([self._rest, block]) if len(self._rest) else block
            whole = len(rows) // self._factor * self._factor
            self._shrink(rows[:whole])
            self._rest = rows[whole:].copy()
            yield block

    @property
    def picture(self) -> UInt8[np.ndarray, "_ _ 3"]:
        """The picture of all rows; the last squares may have fewer rows than the others."""
        self._shrink(self._rest)
        self._rest = self._rest[:0]
        return np.concatenate(self._parts)

    def _shrink(self, rows: UInt8[np.ndarray, "_ _ 3"]) -> None:
        if len(rows):
            self._parts.append(np.asarray(Image.fromarray(rows).reduce(self._factor)))


class _Thinned:
    """Every n-th row and column of labels whose rows pass by."""

    def __init__(self, factor: int):
        self._factor = factor
        self._parts: list[np.ndarray] = []
        self._passed = 0

    def watch(
        self, blocks: Iterator[UInt8[np.ndarray, "_ _"]]
    ) -> Iterator[UInt8[np.ndarray, "_ _"]]:
        """Pass the blocks on unchanged."""
        for block in blocks:
            first = -self._passed % self._factor
            self._parts.append(block[first :: self._factor, :: self._factor].copy())
            self._passed += len(block)
            yield block

    @property
    def picture(self) -> UInt8[np.ndarray, "_ _"]:
        """The rows and columns that were kept."""
        return np.concatenate(self._parts)
