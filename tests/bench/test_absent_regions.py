"""The two blocks compiled for absent machines: a CPU stands in for one, or the target is a TPU."""

import json
import subprocess
import sys

import jax
import pytest

from ranet_jax.bench import targets
from ranet_jax.cli import main

pytestmark = pytest.mark.slow

CASES = [
    ("construction", "dense", 3, False),
    ("construction", "dense", 3, True),
    ("both", "dense", 3, False),
    ("both", "dense", 3, True),
    ("interaction", "blocks", None, False),
    ("interaction", "blocks", None, True),
]


@pytest.fixture
def one_cpu(monkeypatch):
    def open_target(name):
        return targets.Target(name, "tpu", tuple(jax.devices()[:1]), 2**30, {})

    monkeypatch.setattr(targets, "open_target", open_target)


def test_the_command_compiles_a_batch_of_both_blocks(one_cpu, tmp_path, capsys):
    path = tmp_path / "regions.json"
    sizes = ["--size", "5", "6", "--num-classes", "3", "--paths", "dense", "--batch", "2"]
    assert main(["bench", "regions", "--target", "one", *sizes, "--output", str(path)]) == 0
    opening, table, counted = capsys.readouterr().out.strip().split("\n\n")[:3]
    assert opening.startswith("A batch of 2, 5 x 6 pixels and 512 channels per image")
    assert "construction, dense, c = 3, forward + backward" in table
    assert counted.startswith("Counted in the compiled program: the operations")
    results = json.loads(path.read_text())
    assert (results["batch"], results["size"]) == (2, [5, 6])
    found = [
        (cost["part"], cost["path"], cost["num_classes"], cost["backward"])
        for cost in results["costs"]
    ]
    assert found == CASES
    arguments = [cost["memory"]["arguments"] for cost in results["costs"]]
    maps, features, score = 2 * 30 * 4 * (1 + 3) + 4, 2 * 30 * 4 * 512, 2 * 30 * 4
    assert arguments == [maps] * 2 + [maps + features] * 2 + [features + 2 * score] * 2
    launches = [cost["program"]["launches"] for cost in results["costs"]]
    assert all(
        backward > forward > 0
        for forward, backward in zip(launches[::2], launches[1::2], strict=True)
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "one", "--size", "0", "5"], "The height is 0; choose 1 or more."),
        (["--target", "one", "--batch", "0"], "The number of images is 0; choose 1 or more."),
        (["--target", "one", "--num-classes", "0"], "The number of categories is 0; choose 1"),
        (["--target", "one", "--repeats", "2"], "--repeats has no meaning with --target"),
        (["--parts", "both"], "--parts has no meaning without --target; leave it out."),
        (["--target", "one", "--scene", "cells"], "--scene has no meaning with --target"),
        (["--batch", "2"], "--batch has no meaning without --target; leave it out."),
        (["--target", "one", "--output", "missing/regions.json"], "Directory missing for the"),
    ],
)
def test_what_makes_no_sense(arguments, sentence, one_cpu, capsys):
    assert main(["bench", "regions", *arguments]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.long
def test_region_construction_stays_within_its_bounds_on_a_tpu(tpu_compiler, tmp_path):
    """As XLA loops, in the order for CPUs, it took 1.1e9 and 2.8e9 cycles at this size."""
    path = tmp_path / "regions.json"
    command = [sys.executable, "-m", "ranet_jax", "bench", "regions", "--target", "v5e:2x2"]
    command += ["--size", "33", "33", "--parts", "construction", "--output", str(path)]
    done = subprocess.run(command, env=tpu_compiler, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for cost, cycles, operations in zip(
        json.loads(path.read_text())["costs"], (7e6, 1.5e7), (700, 900), strict=True
    ):
        program = cost["program"]
        assert 0.5 * cycles < program["estimated_cycles"] < cycles
        assert program["launches"] < operations
        assert program["unknown_loops"] == 0
        assert len(cost["kernels"]) == (24 if cost["backward"] else 16)
        assert all(cost["kernels"].values())
