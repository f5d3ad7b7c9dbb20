import json
import textwrap

import numpy as np
import pytest

from helpers.fakes import DATASET
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.region_statistics import RegionCounts, RegionScores
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.inference.settings import InferenceSettings

SETTINGS = InferenceSettings()


def hand_made_result(regions=None):
    confusion = np.array([[600, 200, 0], [100, 1100, 0], [0, 0, 0]], np.int64)
    scores = SegmentationScores(confusion)
    return EvaluationResult(DATASET, SETTINGS, 2, 1.5, scores, regions=regions)


def test_table_of_a_hand_made_result():
    expected = """
        | class              | fine IoU | pixels |
        |:-------------------|---------:|-------:|
        | red                |    66.67 |    800 |
        | green              |    78.57 |  1,200 |
        | blue               |        - |      0 |
        | **mean IoU**       |    72.62 |  2,000 |
        | **pixel accuracy** |    85.00 |        |
        | **mean accuracy**  |    83.33 |        |
    """
    assert hand_made_result().table() == textwrap.dedent(expected).strip()


def test_regions_stand_below_the_classes_and_among_the_scores():
    regions = RegionScores(RegionCounts(images=2, pixels=100, regions=2, largest_pixels=97))
    result = hand_made_result(regions)
    assert result.table() == f"{hand_made_result().table()}\n\n{regions.table()}"
    assert result.to_json() == hand_made_result().to_json() | {"regions": regions.to_json()}
    json.dumps(result.to_json(), allow_nan=False)


def test_json_of_a_hand_made_result():
    fields = json.loads(json.dumps(hand_made_result().to_json(), allow_nan=False))
    assert fields["num_images"] == 2
    assert fields["settings"]["mode"] == "whole"
    assert fields["fine"]["miou"] == pytest.approx((6 / 9 + 11 / 14) / 2)
    assert fields["fine"]["pixel_accuracy"] == pytest.approx(0.85)
    assert fields["fine"]["confusion"] == [[600, 200, 0], [100, 1100, 0], [0, 0, 0]]
    assert fields["fine"]["classes"]["blue"]["iou"] is None
    assert fields["fine"]["classes"]["green"] == {
        "iou": pytest.approx(11 / 14),
        "labelled_pixels": 1200,
        "predicted_pixels": 1300,
        "correct_pixels": 1100,
    }
