"""Purity of regions: how far a region's pixels have one true category."""

import math

import numpy as np
from jaxtyping import Int, Integer

from ranet_jax import ops
from ranet_jax.pipeline.metadata import IGNORE_LABEL


def region_purity(
    labels: Int[np.ndarray, "h w"],
    truth: Integer[np.ndarray, "H W"],
    ignore_label: int = IGNORE_LABEL,
    align_corners: bool = True,
) -> float:
    """Share of the labelled feature pixels that have their region's most frequent category.

    Arguments are those of `count_pure_pixels`. NaN if no pixel is labelled.
    """
    labelled, pure = count_pure_pixels(labels, truth, ignore_label, align_corners)
    return pure / labelled if labelled else math.nan


def count_pure_pixels(
    labels: Int[np.ndarray, "h w"],
    truth: Integer[np.ndarray, "H W"],
    ignore_label: int = IGNORE_LABEL,
    align_corners: bool = True,
) -> tuple[int, int]:
    """Counts of feature pixels with a category, and of those with their region's most frequent.

    Args:
      labels: root pixel (row-major number) of each feature pixel's region.
      truth: label map of any resolution, read at the feature pixels' places (`ops.nearest_grid`).
      ignore_label: the value of pixels without a category.
      align_corners: how the feature grid lies over the label map, as in `ops.nearest_grid`.
    """
    categories = truth[ops.nearest_grid(labels.shape, truth.shape, align_corners)]
    labelled = categories != ignore_label
    labels, categories = labels[labelled], categories[labelled]
    num_categories = int(categories.max(initial=0)) + 1
    pairs, counts = np.unique(
        labels.astype(np.int64) * num_categories + categories, return_counts=True
    )
    most = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    np.maximum.at(most, pairs // num_categories, counts)
    return int(labelled.sum()), int(most.sum())
