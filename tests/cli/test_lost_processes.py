"""One of four processes is killed, again and again: the others say so, and nothing is lost."""

import random
import time

import pytest

from helpers import processes, training
from ranet_jax.checkpoints.steps import finished_steps
from ranet_jax.display.progress import track

pytestmark = [pytest.mark.slow, pytest.mark.long]

KILLS = 20
COUNT = 4
PATIENCE = 60  # seconds


def start(workdir):
    port = processes.free_port()
    options = ("--lost-after", "10", "--join-timeout", "40")
    return [processes.start(workdir, port, index, *options, count=COUNT) for index in range(COUNT)]


def train_to_the_end(workdir):
    started = start(workdir)
    assert [processes.ends(process, None) for process in started] == [(0, "")] * COUNT


def kill_one(workdir, index, after):
    """Whether a process was killed so many seconds after all began, and the others had to end."""
    started = start(workdir)
    time.sleep(after)
    started[index].kill()
    killed = time.monotonic()
    others = [process for process in started if process is not started[index]]
    told = [processes.ends(process, PATIENCE) for process in others]
    assert time.monotonic() - killed < PATIENCE
    started[index].communicate()
    if all(status == 0 for status, _ in told):
        return False
    saved = finished_steps(workdir / "checkpoints")
    last = f"step {saved[-1]} is saved last" if saved else "no step is saved"
    for status, sentence in told:
        assert status == 75, told
        assert last in sentence, told
    return True


def test_processes_killed_at_any_moment_lose_and_change_nothing(tmp_path):
    """About a quarter of an hour; a training ends after every fifth kill."""
    rng = random.Random(0)
    train_to_the_end(tmp_path / "whole")
    with track(desc="kill", unit="kill", total=KILLS) as progress:
        while progress.n < KILLS:
            workdir = tmp_path / str(progress.n)
            for _ in range(5):
                progress.update(kill_one(workdir, rng.randrange(COUNT), rng.uniform(1, 30)))
            train_to_the_end(workdir)
            training.assert_same_run(workdir, tmp_path / "whole")
