"""What ends a training before its last step, and what is refused before its first."""

import json
import math
import os
import signal

import pytest

from helpers import training
from ranet_jax.checkpoints.steps import finished_steps
from ranet_jax.config import set_field
from ranet_jax.errors import Interrupted, UserError
from ranet_jax.models import build_model
from ranet_jax.training.loop import train
from ranet_jax.training.records import MetricsLog, read_records


def run(workdir, config, on_batch=lambda number: None, build=build_model):
    return train(
        config,
        workdir,
        training.DATASET,
        lambda first: training.train_batches(first, on_batch=on_batch),
        training.eval_batches,
        build,
    )


def evaluations(workdir):
    return [r["step"] for r in read_records(workdir / "metrics.jsonl") if "fine_miou" in r]


@pytest.mark.parametrize(
    "mious, waited",
    [
        ([], 0),
        ([0.3], 0),
        ([0.3, 0.2, 0.5, 0.4, 0.1], 2),
        ([0.5, 0.5, 0.5], 2),
        ([math.nan, 0.1, math.nan], 1),
        ([0.1, 0.2, 0.3], 0),
    ],
)
def test_evaluations_since_the_best_are_counted_from_the_records(tmp_path, mious, waited):
    lines = [json.dumps({"step": 10 * n, "fine_miou": miou}) for n, miou in enumerate(mious, 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    with MetricsLog(tmp_path, 10 * len(mious), 100) as log:
        assert log.evaluations_since_best(10 * len(mious)) == waited
        assert log.evaluations_since_best(10) == 0


@pytest.mark.long
@pytest.mark.slow
def test_training_stops_when_patience_is_used_up_and_does_not_go_on(tmp_path, capsys):
    """A learning rate of nearly 0 learns nothing that could score better."""
    config = training.tiny_config(8)
    config.optimizer.learning_rate = 1e-12
    config.train.update(eval_every=1, patience=2)

    def interrupt(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):  # the scores of step 1 and, after it, of step 2 count
        run(tmp_path, config, on_batch=interrupt)
    result = run(tmp_path, config)
    sentence = (
        "ranet: Training stops after step 3 of 8, as the mean IoU did not improve in 2 evaluations"
        " in a row (config.train.patience is 2).\n"
    )
    assert capsys.readouterr().err.count(sentence) == 1
    assert evaluations(tmp_path) == [1, 2, 3]
    assert finished_steps(tmp_path / "checkpoints")[-1] == 3

    def refuse(number):
        raise AssertionError("a batch was drawn")

    before = read_records(tmp_path / "metrics.jsonl")
    assert run(tmp_path, config, on_batch=refuse).fine.miou == result.fine.miou
    assert capsys.readouterr().err.count(sentence) == 1
    assert read_records(tmp_path / "metrics.jsonl") == before
    config.train.patience = 3  # patience may change: training goes on from there
    run(tmp_path, config)
    assert evaluations(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("model.init_from", ".", "is '.', which holds no checkpoint; name"),
        ("optimizer.warmup_steps", 6, "warmup_steps is 6; choose 0 or more, and fewer"),
        ("optimizer.lr_multipliers", (("(", 0.5),), r"'\(', which is not a regular expression"),
    ],
)
def test_refused_before_a_network_is_built(tmp_path, name, value, sentence):
    def build(*arguments):
        raise AssertionError("a network was built")

    config = training.tiny_config(6)
    set_field(config, name, value)
    with pytest.raises(UserError, match=sentence):
        run(tmp_path / "run", config, build=build)
    assert not (tmp_path / "run").exists()
