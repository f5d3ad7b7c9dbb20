"""Labels out of range, counts of categories by hand, and the weights by their formula."""

import numpy as np
import pytest

from ranet_jax.errors import UserError
from ranet_jax.pipeline.labels import check_labels, count_labels
from ranet_jax.pipeline.metadata import DatasetMetadata

DATASET = DatasetMetadata(
    "toy", ("sky", "sea", "gull"), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), ignore_label=255
)
MAPS = [
    np.array([[0, 0, 0, 1]], np.uint8),
    np.array([[0], [255], [0], [1]], np.uint8),
]


def test_counts_by_hand():
    found = count_labels(iter(MAPS), DATASET, "train")
    assert found.pixels.tolist() == [5, 2, 0]
    assert found.images.tolist() == [2, 2, 0]
    assert (found.ignored, found.num_images) == (1, 2)
    np.testing.assert_allclose(found.shares, [5 / 7, 2 / 7, 0])


def test_weights_average_one_over_the_pixels():
    found = count_labels(MAPS, DATASET, "train")
    first, second, absent = found.class_weights
    assert absent == 0
    assert first * 5 / 7 + second * 2 / 7 == pytest.approx(1, abs=0.01)
    assert second / first == pytest.approx(np.log(1.02 + 5 / 7) / np.log(1.02 + 2 / 7), rel=0.02)


def test_the_report_names_what_is_absent():
    text = count_labels(MAPS, DATASET, "train").report()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert rows[2][:4] == ["sky", "5", "71.43", "2"]
    assert "2 images; 12.50 percent of the pixels are ignored." in text
    assert "Absent from train, so that they cannot be learned: gull." in text
    assert "has 2.5 times the pixels of the rarest" in text


def test_nothing_but_ignored_pixels():
    found = count_labels([np.full((2, 2), 255, np.uint8)], DATASET, "train")
    assert found.class_weights == (0, 0, 0)
    text = found.report()
    assert "100.00 percent of the pixels are ignored" in text
    assert "class_weights=" not in text


@pytest.mark.parametrize("value", [3, 254])
def test_a_label_out_of_range_is_refused(value):
    labels = np.array([[0, 2, 255, value]], np.uint8)
    with pytest.raises(UserError, match=f"value {value}"):
        check_labels(labels, 3)


def test_a_negative_label_is_refused_and_valid_labels_pass():
    with pytest.raises(UserError, match="value -1"):
        check_labels(np.array([[0, -1]], np.int32), 3)
    check_labels(np.array([[0, 1, 2, 255]], np.uint8), 3)
    check_labels(np.array([[0, 1, 2, -1]], np.int32), 3, ignore_label=-1)
