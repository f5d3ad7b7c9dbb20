"""What evaluations leave in `metrics.jsonl`, in TensorBoard and on the terminal."""

import dataclasses

import numpy as np
import pytest

from helpers import training
from helpers.tensorboard import pictures_of_events
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.region_statistics import RegionCounts, RegionScores
from ranet_jax.evaluation.result import EvaluationResult, Sample
from ranet_jax.evaluation.sample_sheet import sample_sheet
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.training.records import MetricsLog, read_records


@pytest.mark.parametrize("largest", [600, 968])
def test_regions_are_recorded_and_useless_ones_told(tmp_path, capsys, largest):
    counts = RegionCounts(
        images=4,
        pixels=1000,
        regions=10,
        region_pixels=950,
        largest_pixels=largest,
        labelled_pixels=500,
        pure_pixels=400,
        true_boundary=30,
    )
    scores = SegmentationScores(np.diag([3, 1]).astype(np.int64))
    result = EvaluationResult(
        training.DATASET, InferenceSettings(), 4, 1.0, scores, regions=RegionScores(counts)
    )
    with MetricsLog(tmp_path, 0, 3) as log:
        log.evaluation(3, result)
    assert read_records(tmp_path / "metrics.jsonl") == [
        {
            "step": 3,
            "fine_miou": 1.0,
            "fine_accuracy": 1.0,
            "regions_per_image": 2.5,
            "region_size": 95.0,
            "pixel_region_size": 0.0,
            "largest_region_share": largest / 1000,
            "slot_share": 0.0,
            "single_share": 0.0,
            "region_purity": 0.8,
            "boundary_recall": 0.0,
            "boundary_f": 0.0,
        }
    ]
    shown, told = capsys.readouterr()
    assert "step 3: fine_miou 1.0000, fine_accuracy 1.0000, 2.5 regions per image" in shown
    assert "purity 80.0 %, single pixels 0.0 %, boundary F 0.0 %\n" in shown
    assert told.count("ranet: The largest region of an image covers 97 % of") == (largest > 900)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_samples_of_an_evaluation_are_shown_in_tensorboard_in_their_colours(tmp_path, order):
    """The left half is orange, the right half blue-green: not grey, and no channels exchanged."""
    photograph = np.zeros((20, 30, 3), np.uint8)
    photograph[:, :15], photograph[:, 15:] = (250, 120, 10), (5, 90, 160)
    normalization = Normalization((123.0, 116.0, 103.0), (58.0, 57.0, 56.0), order)
    labels = np.zeros((20, 30), np.uint8)
    scores = SegmentationScores(np.diag([3, 1]).astype(np.int64))
    seen = np.asarray(normalization(photograph.astype(np.float32)), np.float32)
    result = EvaluationResult(
        *(training.DATASET, InferenceSettings(), 4, 1.0, scores),
        samples=(Sample(seen, labels, labels),),
    )
    with MetricsLog(tmp_path, 0, 3) as log:
        log.evaluation(2, result, sample_sheet(result, normalization))
        log.evaluation(3, dataclasses.replace(result, samples=()))
    pictures = pictures_of_events(tmp_path / "tensorboard")
    assert pictures.keys() == {("eval/samples", 2)}
    sheet = pictures["eval/samples", 2]
    orange, blue = (np.argwhere((sheet == color).all(axis=-1)) for color in photograph[0, [0, -1]])
    assert len(orange) == len(blue) == 120 * 160  # halves of 240 x 160 pixels
    assert orange[:, 1].max() + 1 == blue[:, 1].min()
