"""`launch/ray_train.py` on a Ray cluster of four hosts, of which one is lost and comes back."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from ray.cluster_utils import Cluster

from helpers import xla
from helpers.camvid_source import CONFIG, make_source
from ranet_jax.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.long]

PROGRAM = pathlib.Path(__file__).parents[1] / "launch" / "ray_train.py"
STEPS = 600
PATIENCE = 240  # seconds


@pytest.fixture
def options(tmp_path):
    """A training of which twelve images a step are the same on three hosts and on four."""
    source = make_source(tmp_path / "source")
    data = tmp_path / "tfds"
    assert main(["prepare", "camvid", "--source", str(source), "--data-dir", str(data)]) == 0
    (tmp_path / "config.py").write_text(CONFIG.format(data_dir=str(data)))
    fields = {"steps": STEPS, "batch_size": 12, "checkpoint_every": 20, "eval_every": STEPS}
    fields = {f"train.{name}": value for name, value in fields.items()}
    fields |= {"data.shared_order": True, "model.dropout": 0.0}
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config", str(tmp_path / "config.py"), *given]


@pytest.fixture
def cluster():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    cluster.shutdown()


def losses(workdir):
    """The loss of each step, in order."""
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    steps = {record["step"]: record["loss"] for record in records if "loss" in record}
    assert list(steps) == list(range(1, STEPS + 1))
    return np.array(list(steps.values()))


def wait_for(text, log, process):
    end = time.monotonic() + PATIENCE
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-5000:]
        time.sleep(0.5)


def test_a_training_goes_on_with_three_hosts_and_with_four_again(tmp_path, options, cluster):
    elastic, log = tmp_path / "elastic", tmp_path / "log.txt"
    hosts = [cluster.add_node(num_cpus=1) for _ in range(4)]
    command = [sys.executable, PROGRAM, "--workers", "3", "4", "--resize-every", "10", "--"]
    with (
        log.open("w") as file,
        subprocess.Popen(
            [*command, *options, "--workdir", elastic, "--lost-after", "8"],
            env=os.environ | {"RAY_ADDRESS": cluster.address, "XLA_FLAGS": xla.flags(1)},
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        wait_for("train: 40/", log, process)
        cluster.remove_node(hosts[0], allow_graceful=False)
        wait_for("on 3 x ", log, process)
        cluster.add_node(num_cpus=1)
        assert process.wait(PATIENCE) == 0, log.read_text()[-5000:]
    assert re.findall(r"training on (\d) x", log.read_text()) == ["4", "3", "4"]
    alone = tmp_path / "alone"
    assert main(["train", *options, "--workdir", str(alone)]) == 0
    np.testing.assert_allclose(losses(elastic), losses(alone), rtol=1e-3)
