"""One of four processes is killed repeatedly: the others report it, and nothing is lost."""

import contextlib
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


@contextlib.contextmanager
def started(workdir):
    """Start four processes that train; those still running at the end are killed."""
    port = processes.free_port()
    options = ("--lost-after", "10", "--join-timeout", "25")
    running = [
        processes.start(workdir, port, index, *options, count=COUNT) for index in range(COUNT)
    ]
    try:
        yield running
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def train_to_the_end(workdir):
    with started(workdir) as running:
        assert [processes.ends(process, None) for process in running] == [(0, "")] * COUNT


def kill_one(workdir, index, after):
    """Kill one process `after` seconds after all began; the others end and say what is saved."""
    with started(workdir) as running:
        time.sleep(after)
        killed = running.pop(index)
        killed.kill()
        killed.communicate()
        end = time.monotonic() + PATIENCE
        told = [processes.ends(process, end - time.monotonic()) for process in running]
    if all(status == 0 for status, _ in told):  # the training was at its end
        return
    saved = finished_steps(workdir / "checkpoints")
    last = f"the last saved step is {saved[-1]}" if saved else "no step is saved"
    for status, sentence in told:
        assert status == 75, told
        assert last in sentence, told


def test_processes_killed_at_any_moment_lose_and_change_nothing(tmp_path):
    """Takes about a quarter of an hour; a training runs to its end after every fifth kill."""
    rng = random.Random(0)
    train_to_the_end(tmp_path / "whole")
    with track(desc="kill", unit="kill", total=KILLS) as progress:
        while progress.n < KILLS:
            workdir = tmp_path / str(progress.n)
            for _ in range(5):
                kill_one(workdir, rng.randrange(COUNT), rng.uniform(1, 30))
                progress.update(1)
            train_to_the_end(workdir)
            training.assert_same_run(workdir, tmp_path / "whole")
