"""Segmentation metrics from exact confusion matrices: int32 per batch on device, int64 on host."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float64, Int, Int64, Integer

from ranet_jax.pipeline.metadata import IGNORE_LABEL


def confusion_matrix(
    labels: Integer[ArrayLike, "b h w"],
    predictions: Integer[ArrayLike, "b h w"],
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
    mask: Bool[ArrayLike, " b"] | None = None,
) -> Int[Array, "{num_classes} {num_classes}"]:
    """Pixel counts of one batch by true class (rows) and predicted class (columns); jit-able.

    Pixels of `ignore_label` and images whose `mask` is False are not counted. Labels must have
    passed `pipeline.labels.check_labels`, and predictions must be classes. With two classes and six
    pixels::

        labels       0  0  0  1  1  255
        predictions  0  0  1  1  0  1          [[2, 1],
                                                [1, 1]]
    """
    truth = jnp.asarray(labels).astype(jnp.int32)
    chosen = jnp.asarray(predictions).astype(jnp.int32)
    counted = (truth != ignore_label) & (truth >= 0) & (truth < num_classes)
    if mask is not None:
        counted &= jnp.asarray(mask)[:, None, None]
    cells = jnp.where(counted, truth * num_classes + chosen, num_classes**2)
    counts = jnp.bincount(cells.reshape(-1), length=num_classes**2 + 1)[:-1]
    return counts.reshape(num_classes, num_classes).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class SegmentationScores:
    """Scores of a confusion matrix (int64, rows are the truth); all are fractions of 1.

    A class that occurs neither in the truth nor in the prediction has an IoU of NaN and is left
    out of the mean, as is usual in the field; a score without any pixels is NaN.
    """

    confusion: Int64[np.ndarray, "c c"]

    @property
    def correct(self) -> Int64[np.ndarray, " c"]:
        """Pixels of each class that were predicted as that class."""
        return np.diagonal(self.confusion)

    @property
    def labelled(self) -> Int64[np.ndarray, " c"]:
        """Pixels of each class in the truth."""
        return self.confusion.sum(axis=1)

    @property
    def predicted(self) -> Int64[np.ndarray, " c"]:
        """Counted pixels predicted as each class."""
        return self.confusion.sum(axis=0)

    @property
    def class_iou(self) -> Float64[np.ndarray, " c"]:
        """Intersection over union of each class."""
        return _ratio(self.correct, self.labelled + self.predicted - self.correct)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in the truth or in the prediction."""
        return _mean_of_present(self.class_iou)

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of the labelled pixels that were predicted right."""
        return float(_ratio(self.correct.sum(), self.confusion.sum()))

    @property
    def mean_accuracy(self) -> float:
        """Mean over the classes of the truth of the fraction predicted right."""
        return _mean_of_present(_ratio(self.correct, self.labelled))


def _ratio(part: np.ndarray | np.int64, whole: np.ndarray | np.int64) -> np.ndarray:
    """`part / whole` in float64, NaN where `whole` is 0."""
    return np.where(whole > 0, np.float64(part) / np.maximum(whole, 1), np.nan)


def _mean_of_present(values: np.ndarray) -> float:
    """Mean over the values that are not NaN; NaN if there are none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
