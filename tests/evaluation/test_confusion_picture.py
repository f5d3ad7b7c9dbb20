"""The picture of a confusion matrix at every number of classes."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ranet_jax.evaluation.confusion_picture import draw_confusion, row_shares, short_count
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.pipeline.metadata import DatasetMetadata


def result_of(confusion, names):
    dataset = DatasetMetadata("things", tuple(names), ((0, 0, 0),) * len(names))
    scores = SegmentationScores(confusion)
    return EvaluationResult(dataset, InferenceSettings(), 1, 1.0, scores)


def test_rows_sum_to_one_or_hold_nothing():
    shares = row_shares(np.array([[6, 2], [0, 0]]))
    np.testing.assert_array_equal(shares, [[0.75, 0.25], [np.nan, np.nan]])


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 2, 24, 25, pytest.param(171, marks=pytest.mark.long)])
def test_every_class_is_named_and_small_matrices_hold_numbers(num_classes, tmp_path, monkeypatch):
    drawn, write = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        drawn.append(figure)
        write(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    # Text that Matplotlib would read as a formula, or has no glyphs for.
    names = [f"$class_{number}$ \u7a7a" for number in range(num_classes)]
    confusion = np.diag(np.full(num_classes, 1234))
    draw_confusion(result_of(confusion, names), tmp_path / "confusion.png")
    (axes,) = drawn[0].axes
    left = axes.get_yticklabels()[:num_classes]
    assert [label.get_text() for label in left] == names
    texts = [text.get_text() for text in axes.texts]
    assert texts == (["100.0\n1.2k"] * num_classes if num_classes <= 24 else [])
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 8 * num_classes
        assert max(picture.size) < 4000
    boxes = [label.get_window_extent() for label in left]
    assert all(above.y0 >= below.y1 - 2 for above, below in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0"),
        (950, "950"),
        (1000, "1.0k"),
        (9_949, "9.9k"),
        (9_951, "10k"),
        (999_400, "999k"),
        (999_600, "1.0M"),
        (123_456_789, "123M"),
        (5_600_000_000, "5.6G"),
    ],
)
def test_counts_are_short(count, text):
    assert short_count(count) == text
