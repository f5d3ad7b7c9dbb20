"""A working directory whose scores are known by hand, and its model."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import ranet_jax
from helpers.fakes import random_variables
from ranet_jax import checkpoints
from ranet_jax.config import default_config
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import build_model
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
    """What `ranet evaluate` writes of a confusion matrix whose scores one can work out."""
    result = EvaluationResult(
        DATASET,
        InferenceSettings(mode="slide", crop_size=(33, 41), flip=True),
        num_images=1200,
        seconds=1.0,
        fine=SegmentationScores(np.array([[3, 1], [1, 5]])),
        coarse=SegmentationScores(np.array([[4, 0], [0, 6]])),
    )
    return {"step": step, "split": split, "pictures": 0} | result.to_json() | fields


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Weights of one step, training's record of it and of another, and a report of each."""
    directory = tmp_path_factory.mktemp("hub") / "run"
    config = small_config()
    checkpoints.prepare_workdir(directory, config, DATASET)
    variables = random_variables(build_model(config, DATASET.num_classes))
    state = variables | {"step": jnp.int32(STEP), "ema_params": None}
    with checkpoints.open_manager(directory, 1) as manager:
        checkpoints.save(manager, STEP, state, 0.5)
    records = [
        {"step": 6, "fine_miou": 0.125, "fine_accuracy": 0.25},
        {"step": STEP, "loss": 2.0, "learning_rate": 0.1},
        {"step": STEP, "fine_miou": 0.5, "fine_accuracy": 0.75, "coarse_miou": 0.375},
    ]
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    (directory / "metrics.jsonl").write_text(lines)
    (directory / "evaluation_test.json").write_text(json.dumps(report(STEP)))
    (directory / "evaluation_other.json").write_text(json.dumps(report(6, "other")))
    return directory


@pytest.fixture(scope="session")
def model(run):
    return ranet_jax.load(run)


@pytest.fixture(scope="session")
def published(run, model, tmp_path_factory):
    """The directory of the model, which no test changes."""
    directory = tmp_path_factory.mktemp("published") / "sides"
    ranet_jax.save_pretrained(model, directory, run, license="apache-2.0")
    return directory
