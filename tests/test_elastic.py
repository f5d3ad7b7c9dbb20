"""`launch/ray_train.py` on a Ray cluster of four hosts, one of which is lost and comes back."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers import ray_cluster, xla
from helpers.camvid_source import CONFIG, make_source
from ranet_jax.checkpoints.steps import finished_steps
from ranet_jax.cli import main
from ranet_jax.files.paths import as_path

pytestmark = [pytest.mark.slow, pytest.mark.long]

PROGRAM = pathlib.Path(__file__).parents[1] / "launch" / "ray_train.py"
STEPS = 160
ENVIRONMENT = os.environ | {"XLA_FLAGS": xla.flags(1), "RAY_DEDUP_LOGS": "0"}
PATIENCE = 240  # seconds


@pytest.fixture
def options(tmp_path):
    """A training in which the twelve images of a step are the same on three hosts and on four."""
    source = make_source(tmp_path / "source")
    data = tmp_path / "tfds"
    assert main(["prepare", "camvid", "--source", str(source), "--data-dir", str(data)]) == 0
    (tmp_path / "config.py").write_text(CONFIG.format(data_dir=str(data)))
    fields = {"steps": STEPS, "batch_size": 12, "checkpoint_every": 10, "eval_every": STEPS}
    fields = {f"train.{name}": value for name, value in fields.items()}
    fields |= {"data.shared_order": True, "model.dropout": 0.0}
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config", str(tmp_path / "config.py"), *given]


class Cluster:
    """A Ray cluster that starts without hosts; `tell` adds and kills them."""

    def __init__(self, program):
        self.program = program
        self.address = program.stdout.readline().strip()

    def tell(self, word):
        self.program.stdin.write(f"{word}\n")
        self.program.stdin.flush()


@pytest.fixture
def cluster():
    with subprocess.Popen(
        [sys.executable, ray_cluster.__file__],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        yield Cluster(program)
        program.stdin.close()


def losses(workdir):
    """The loss of each step, in order."""
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    steps = {record["step"]: record["loss"] for record in records if "loss" in record}
    assert list(steps) == list(range(1, STEPS + 1))
    return np.array(list(steps.values()))


def last_step(workdir):
    """The last step that is saved, or 0."""
    return max(finished_steps(as_path(workdir / "checkpoints")), default=0)


def trainings(log):
    """The number of processes at each start of the training."""
    return [int(count) for count in re.findall(r"training on (\d) x cpu", log.read_text())]


def wait_for(condition, log, process):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-5000:]
        time.sleep(0.5)


def test_a_training_goes_on_with_three_hosts_and_with_four_again(tmp_path, options, cluster):
    elastic, log = tmp_path / "elastic", tmp_path / "log.txt"
    for _ in range(4):
        cluster.tell("add")
    command = [sys.executable, PROGRAM, "--workers", "3", "4", "--resize-every", "10", "--"]
    with (
        log.open("w") as file,
        subprocess.Popen(
            [*command, *options, "--workdir", elastic, "--lost-after", "8"],
            env=ENVIRONMENT | {"RAY_ADDRESS": cluster.address, "HOME": str(tmp_path)},
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        wait_for(lambda: last_step(elastic) >= 20, log, process)
        cluster.tell("kill")
        wait_for(lambda: trainings(log)[-1] == 3, log, process)
        saved = last_step(elastic)
        wait_for(lambda: last_step(elastic) >= saved + 20, log, process)
        cluster.tell("add")
        assert process.wait(PATIENCE) == 0, log.read_text()[-5000:]
    assert trainings(log) == [4, 3, 4]
    alone = tmp_path / "alone"
    subprocess.run(
        [sys.executable, "-m", "ranet_jax", "train", *options, "--workdir", alone],
        env=ENVIRONMENT,
        check=True,
    )
    np.testing.assert_allclose(losses(elastic), losses(alone), rtol=1e-4)
