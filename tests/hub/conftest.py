"""A working directory with scores worked out by hand, and its model."""

import json

import jax.numpy as jnp
import pytest

import ranet_jax
from helpers.fakes import random_variables
from helpers.scored_run import DATASET, STEP, report, small_config
from ranet_jax import checkpoints
from ranet_jax.models import build_model


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run with the weights of one step, and a record and a report of it and of another step."""
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
    """The directory of the published model, which no test changes."""
    directory = tmp_path_factory.mktemp("published") / "sides"
    ranet_jax.save_pretrained(model, directory, run, license="apache-2.0")
    return directory
