"""A picture of a confusion matrix."""

import os
import warnings

import numpy as np
from jaxtyping import Float64, Int64

from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.files import replacing

MOST_NUMBERS = 24  # with more classes, the cells hold no numbers
DPI = 100
CELL_INCHES = (0.62, 0.16)  # with numbers, and without


def draw_confusion(result: EvaluationResult, path: str | os.PathLike) -> None:
    """Draw the confusion matrix of the fine segmentation, each row as fractions of its truth.

    Matrices of up to `MOST_NUMBERS` classes show the percentage and the number of pixels of each
    cell. A class without labelled pixels has a grey row.
    """
    from matplotlib.figure import Figure

    confusion, names = result.fine.confusion, result.dataset.class_names
    shares = row_shares(confusion)
    with_numbers = len(names) <= MOST_NUMBERS
    side = max(2.5, CELL_INCHES[0 if with_numbers else 1] * len(names))
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_facecolor("0.85")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    ticks, font = range(len(names)), 9 if with_numbers else 7
    axes.set_yticks(ticks, names, parse_math=False, fontsize=font)
    axes.set_xticks(ticks, names, parse_math=False, fontsize=font, rotation=90)
    axes.tick_params(top=not with_numbers, labeltop=not with_numbers)
    axes.tick_params(right=not with_numbers, labelright=not with_numbers)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    scale = (
        "percent of the true class, and pixels" if with_numbers else "white 0 %, dark blue 100 %"
    )
    axes.set_title(f"{result.dataset.name}, fine: {scale}", pad=12, parse_math=False)
    if with_numbers:
        for row, column in zip(*confusion.nonzero(), strict=True):
            share = float(shares[row, column])
            percentage = f"{100 * share:.1f}" if share >= 0.0005 else "<0.1"
            text = f"{percentage}\n{short_count(int(confusion[row, column]))}"
            color = "white" if share > 0.55 else "0.15"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    with warnings.catch_warnings():
        # Names in scripts that Matplotlib's font lacks show as boxes.
        warnings.filterwarnings("ignore", "Glyph")
        with replacing(path) as partial:
            figure.savefig(partial, dpi=DPI, bbox_inches="tight", format="png")


def row_shares(confusion: Int64[np.ndarray, "c c"]) -> Float64[np.ndarray, "c c"]:
    """Each row divided by its sum; NaN where that is 0.

    For example

        6 2    0.75 0.25
        0 0    NaN  NaN
    """
    sums = confusion.sum(axis=1, keepdims=True)
    return np.where(sums > 0, confusion / np.maximum(sums, 1), np.nan)


def short_count(count: int) -> str:
    """A number of pixels in at most five characters: 950, 1.2k, 34k, 5.6M."""
    value, unit = float(count), ""
    for larger in "kMGT":
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 1 if unit and value < 9.95 else 0
    return f"{value:.{digits}f}{unit}"
