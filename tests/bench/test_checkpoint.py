"""`ranet bench checkpoint`: a training state saved and loaded, and the time of its checksums."""

import json

import jax
import numpy as np
import pytest

from helpers.training import tiny_config
from ranet_jax.bench import checkpoint
from ranet_jax.cli import main
from ranet_jax.errors import UserError
from ranet_jax.models import build_model

SOURCE = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.crop_size = (33, 33)
    config.model.update(backbone="resnet18", width=4, stages=1, channels=8)
    return config
"""


def parameters(config, classes):
    model = build_model(config, classes)
    images = np.zeros((1, *config.data.crop_size, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), images)
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(("ema_decay", "copies"), [(None, 2), (0.9, 3)])
def test_the_state_holds_parameters_momentum_and_average(ema_decay, copies):
    config = tiny_config()
    config.optimizer.ema_decay = ema_decay
    state = checkpoint.random_state(config, 3)
    statistics = sum(x.size for x in jax.tree.leaves(state["batch_stats"]))
    floats = [x for x in jax.tree.leaves(state) if np.issubdtype(x.dtype, np.floating)]
    assert sum(x.size for x in floats) == copies * parameters(config, 3) + statistics
    assert all(x.std() > 0 for x in floats if x.size > 1)


@pytest.mark.slow
def test_the_command_saves_loads_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(SOURCE)
    (tmp_path / "place").mkdir()
    arguments = ["--config", str(tmp_path / "tiny.py"), "--directory", str(tmp_path / "place")]
    arguments += ["--repeats", "2", "--output", str(tmp_path / "cost.json")]
    assert main(["bench", "checkpoint", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "lowest, median and highest of 2" in printed
    results = json.loads((tmp_path / "cost.json").read_text())
    for whole, part in (("save", "write_checksums"), ("load", "compare_checksums")):
        assert len(results[whole]) == len(results[part]) == 2
        assert min(results[whole] + results[part]) > 0
    assert list((tmp_path / "place").iterdir()) == []


def test_no_room_and_no_repeats_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written .*; choose another directory"):
        checkpoint.measure_checkpoint(tiny_config(), 3, 1, tmp_path / "missing")
    with pytest.raises(UserError, match="The number of repeats is 0; choose 1 or more"):
        checkpoint.measure_checkpoint(tiny_config(), 3, 0)
