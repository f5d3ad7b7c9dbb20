"""The sheet of an evaluation's samples."""

import dataclasses

import numpy as np

from helpers.fakes import DATASET
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.result import EvaluationResult, Sample
from ranet_jax.evaluation.sample_sheet import sample_sheet
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.pipeline.normalization import Normalization


def test_samples_lie_below_each_other_with_truth_and_prediction():
    scores = SegmentationScores(np.eye(3, dtype=np.int64))
    result = EvaluationResult(DATASET, InferenceSettings(), 2, 1.0, scores)
    normalization = Normalization((70.0, 80.0, 90.0), (7.0, 8.0, 9.0))
    assert sample_sheet(result, normalization) is None
    image = np.ones((30, 60, 3), np.float32)
    truth, fine = np.zeros((60, 120), np.uint8), np.full((30, 60), 1, np.uint8)
    samples = (Sample(image, truth, fine),) * 2
    one, two = (
        sample_sheet(dataclasses.replace(result, samples=some), normalization)
        for some in (samples[:1], samples)
    )
    assert one.width == two.width == 8 + 3 * 248
    assert two.height - one.height == 120 + 8
    middle = np.asarray(one)[one.height // 2]
    assert [tuple(middle[x]) for x in (100, 350, 600)] == [(77, 88, 99), *DATASET.palette[:2]]
