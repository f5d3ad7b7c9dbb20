"""Traces of some steps, and the host that others wait for."""

import time

import jax
import numpy as np
import pytest

from helpers import training
from ranet_jax.errors import UserError
from ranet_jax.training import timing
from ranet_jax.training.loop import train


def run(workdir, profile, steps=3):
    batches = (training.train_batches, training.eval_batches)
    train(training.tiny_config(steps), workdir, training.DATASET, *batches, profile=profile)


def traces(workdir):
    return list(workdir.glob("profile/plugins/profile/*/*.xplane.pb"))


@pytest.mark.long
@pytest.mark.slow
def test_a_trace_is_written_of_the_steps_and_once(tmp_path, capsys):
    run(tmp_path, (2, 3))
    (trace,) = traces(tmp_path)
    assert trace.stat().st_size > 0
    capsys.readouterr()
    run(tmp_path, (2, 3))
    sentence = "resumes after step 3; no profile is written, as step 2 is not repeated"
    assert sentence in capsys.readouterr().err
    assert traces(tmp_path) == [trace]


def test_a_trace_that_an_error_cuts_short_is_written(tmp_path):
    with pytest.raises(ValueError, match="broken"), timing.Profile(tmp_path, (1, 9), 0, 9) as trace:
        trace.before(1, ())
        raise ValueError("broken")
    assert traces(tmp_path)


@pytest.mark.parametrize("steps", [(0, 2), (2, 2), (3, 2), (2, 11)])
def test_steps_that_the_training_has_not(tmp_path, steps):
    with pytest.raises(
        UserError, match="cannot be profiled, because the training has steps 1 to 10"
    ):
        timing.Profile(tmp_path, steps, 0, 10)


def test_the_process_that_waits_longest_is_named(monkeypatch):
    """Process 1 of three measures its own wait of 0.5 s for each of two batches."""
    watch = timing.Stopwatch()
    assert watch.slowest() is None
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    gathered = []

    def gather(own):
        gathered.append(own)
        return np.stack([[0.1, 2.0], own, [0.2, 2.0]])

    monkeypatch.setattr(timing.multihost_utils, "process_allgather", gather)
    for _ in range(2):
        watch.got_input(since=time.monotonic() - 0.5)
    said = watch.slowest()
    assert gathered[0].dtype == np.float32
    assert said.startswith("slowest input: process 1, 0.50 of 0.")
