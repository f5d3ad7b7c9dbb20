"""A run with scores that can be worked out by hand."""

import numpy as np

from ranet_jax.config import default_config
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.pipeline.metadata import DatasetMetadata

DATASET = DatasetMetadata("sides", ("left|right", "né: #1"), ((200, 0, 0), (0, 0, 200)), 254)
STEP = 7


def small_config():
    config = default_config()
    config.seed = 3
    config.data.update(name="sides", data_dir="/home/somebody/tfds", crop_size=(33, 41))
    config.model.update(backbone="resnet18", stages=2, width=4, channels=8, context="none")
    config.model.auxiliary = True
    config.model.init_from = "/home/somebody/weights/resnet18"
    config.train.update(steps=2000, batch_size=6)
    config.eval.scales = (1.0, 0.75)
    return config


def report(step, split="test", **fields):
    """The report of `ranet evaluate` for a confusion matrix with scores that can be worked out."""
    result = EvaluationResult(
        DATASET,
        InferenceSettings(mode="slide", crop_size=(33, 41), flip=True),
        num_images=1200,
        seconds=1.0,
        fine=SegmentationScores(np.array([[3, 1], [1, 5]])),
        coarse=SegmentationScores(np.array([[4, 0], [0, 6]])),
    )
    return {"step": step, "split": split, "pictures": 0} | result.to_json() | fields
