"""A training that is killed again and again, at any moment, loses and changes nothing."""

import os
import random
import subprocess
import sys

import pytest

from helpers import training, xla
from ranet_jax.display.progress import track

pytestmark = [pytest.mark.slow, pytest.mark.long]

KILLS = 100
STEPS = 40


def start(workdir):
    """A process that trains, or goes on training."""
    return subprocess.Popen(
        [sys.executable, training.__file__, str(workdir), str(STEPS), "0.1"],
        env=os.environ | {"XLA_FLAGS": xla.flags(1)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_until_it_ends(workdir, patience):
    """How many processes were killed after `patience()` seconds, until one trained to the end."""
    kills = 0
    while True:
        process = start(workdir)
        try:
            _, errors = process.communicate(timeout=patience())
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        else:
            assert process.returncode == 0, errors
            return kills


def test_a_hundred_kills_lose_and_change_nothing(tmp_path):
    """Takes about a quarter of an hour; every now and then a training reaches its end."""
    rng = random.Random(0)
    assert kill_until_it_ends(tmp_path / "whole", lambda: None) == 0
    with track(desc="kill", unit="kill", total=KILLS) as progress:
        while progress.n < KILLS:
            workdir = tmp_path / str(progress.n)
            progress.update(kill_until_it_ends(workdir, lambda: rng.uniform(1, 12)))
            training.assert_same_run(workdir, tmp_path / "whole")
