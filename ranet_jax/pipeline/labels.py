"""Label maps: checks of their values, counts of their categories, and weights of the classes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Integer, UInt8

from ranet_jax.display.progress import track
from ranet_jax.display.tables import table
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL, DatasetMetadata

# ENet (Paszke et al., 2016) adds this to a share, which bounds the weight of rare categories.
SMOOTHING = 1.02


def check_labels(
    labels: Integer[np.ndarray, "..."], num_classes: int, ignore_label: int = IGNORE_LABEL
) -> None:
    """Raise `UserError` where a label is neither a class (0 .. num_classes - 1) nor `ignore_label`.

    It runs on the host, before the labels reach a device, where a wrong label goes unnoticed.
    """
    wrong = ((labels < 0) | (labels >= num_classes)) & (labels != ignore_label)
    if wrong.any():
        raise UserError(
            f"A label map holds the value {labels[wrong].flat[0]}, which is neither one of the "
            f"{num_classes} classes (0 to {num_classes - 1}) nor the ignore label {ignore_label}: "
            "correct the data set's label maps or its list of classes."
        )


@dataclass(frozen=True)
class LabelStatistics:
    """Counts over the label maps of a split.

    Attributes:
      dataset: description of the data set, with its categories.
      split: name of the split.
      pixels: number of pixels of each category.
      images: number of images that hold each category.
      ignored: number of pixels of no category.
      num_images: number of all images.
    """

    dataset: DatasetMetadata
    split: str
    pixels: Int64[np.ndarray, " c"]
    images: Int64[np.ndarray, " c"]
    ignored: int
    num_images: int

    @property
    def shares(self) -> Float64[np.ndarray, " c"]:
        """Share of each category in the pixels that have a category."""
        return self.pixels / max(1, self.pixels.sum())

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Weights 1 / ln(1.02 + share), scaled to an average of 1 over the pixels.

        They are ENet's, for `config.loss.class_weights`; 0 for a category that does not occur.
        """
        weights = np.where(self.pixels > 0, 1 / np.log(SMOOTHING + self.shares), 0.0)
        scale = float(weights @ self.shares) or 1.0
        return tuple(round(float(weight), 2) for weight in weights / scale)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary of the split's counts of pixels and images, and weights, by category."""
        columns = (self.dataset.class_names, self.pixels, self.images, self.class_weights)
        return {
            "split": self.split,
            "num_images": self.num_images,
            "ignored_pixels": self.ignored,
            "classes": {
                name: {"pixels": int(pixels), "images": int(images), "weight": weight}
                for name, pixels, images, weight in zip(*columns, strict=True)
            },
        }

    def report(self) -> str:
        """Text with a line per category, the absent categories, and how uneven the classes are."""
        names = self.dataset.class_names
        rows = [
            (name, f"{pixels:,}", f"{100 * share:.2f}", f"{images:,}", f"{weight:.2f}")
            for name, pixels, share, images, weight in zip(
                names, self.pixels, self.shares, self.images, self.class_weights, strict=True
            )
        ]
        ignored = self.ignored / max(1, self.ignored + int(self.pixels.sum()))
        lines = [
            table((f"class, in {self.split}", "pixels", "percent", "images", "weight"), rows),
            f"{self.num_images:,} images; {100 * ignored:.2f} percent of the pixels are ignored.",
        ]
        absent = [name for name, pixels in zip(names, self.pixels, strict=True) if pixels == 0]
        if absent:
            lines.append(
                f"Absent from {self.split}, so that they cannot be learned: {', '.join(absent)}."
            )
        present = self.shares[self.pixels > 0]
        if len(present) > 1:
            ratio = present.max() / present.min()
            lines.append(
                f"The most frequent class has {_rounded(ratio)} times the pixels of the rarest."
            )
        return "\n".join(lines)


def _rounded(ratio: float) -> str:
    """A ratio rounded to two significant digits."""
    digits = max(0, math.floor(math.log10(ratio)) - 1)
    return f"{round(ratio, -digits):,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def count_labels(
    label_maps: Iterable[UInt8[np.ndarray, "..."]],
    dataset: DatasetMetadata,
    split: str,
    total: int | None = None,
) -> LabelStatistics:
    """Count the categories of label maps, which hold only categories and the ignore label.

    Args:
      label_maps: one label map per image.
      dataset: description of the data set, with its categories.
      split: name of the split that they belong to.
      total: number of maps, for the progress bar.
    """
    pixels, images = np.zeros((2, 256), np.int64)
    num_images = 0
    for label in track(label_maps, total=total, unit="image", desc="count labels"):
        counts = np.bincount(label.ravel(), minlength=256)
        pixels += counts
        images += counts > 0
        num_images += 1
    classes = slice(dataset.num_classes)
    ignored = int(pixels[dataset.ignore_label])
    return LabelStatistics(dataset, split, pixels[classes], images[classes], ignored, num_images)
