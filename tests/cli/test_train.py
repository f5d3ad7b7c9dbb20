"""`ranet train` when training ends early."""

import json

import pytest

from ranet_jax.cli import main
from ranet_jax.errors import Interrupted
from ranet_jax.pipeline import training_data
from ranet_jax.training import loop
from ranet_jax.training.records import NonFiniteLossError


@pytest.mark.parametrize(
    "error, status",
    [(Interrupted("Stopped.", status=143), 143), (NonFiniteLossError("Not finite."), 1)],
)
def test_curves_are_drawn_of_training_that_was_cut_short(error, status, tmp_path, monkeypatch):
    def train(config, workdir, *data, **options):
        record = {"step": 1, "loss": 2.5}
        (workdir / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        raise error

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(training_data, "open_training_data", lambda config, arrays: ())
    command = ["train", "--config", "configs/shapes.py", "--workdir", str(tmp_path)]
    assert main(command) == status
    assert (tmp_path / "curves.png").is_file()
