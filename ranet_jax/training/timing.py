"""Where the time of a training goes: traces of single steps, and the host that holds others up."""

import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ranet_jax.checkpoints.steps import tell
from ranet_jax.errors import UserError

DIRECTORY = "profile"


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call that has finished its work when it returns, and what it returned."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


class Profile:
    """A trace of some steps, written to `WORKDIR/profile` for XProf by the first host.

    If the first step of the trace is already done, as in a resumed training, there is no trace.

    Args:
      workdir: working directory of the training.
      steps: first step of the trace and the step before which it ends, or None for no trace.
      first: number of steps that are done already.
      last: number of the training's last step.

    Raises:
      UserError: the training has no such steps.
    """

    def __init__(self, workdir: pathlib.Path, steps: tuple[int, int] | None, first: int, last: int):
        self._directory, self._steps, self._running = workdir / DIRECTORY, steps, False
        if steps is None:
            return
        if not 0 < steps[0] < steps[1] <= last:
            raise UserError(
                f"Steps {steps[0]}:{steps[1]} cannot be profiled, because the training has steps 1"
                f" to {last}; give two of these, the smaller one first."
            )
        if steps[0] <= first:
            tell(
                f"Training resumes after step {first}; no profile is written, as step {steps[0]} is"
                " not repeated."
            )
            self._steps = None

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._running:
            self._stop()

    def before(self, step: int, results: object) -> None:
        """Begin or end the trace before a step; `results` are those of the steps under way."""
        if self._steps is None or step not in self._steps or jax.process_index() != 0:
            return
        jax.block_until_ready(results)
        if step == self._steps[0]:
            jax.profiler.start_trace(str(self._directory))
            self._running = True
        elif self._running:
            self._stop()

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()


class Stopwatch:
    """Seconds that this host waited for input, and that its steps took, since the last `begin`."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start again from zero."""
        self._start, self._input, self._steps = time.monotonic(), 0.0, 0

    def got_input(self, since: float) -> None:
        """Note the arrival of a batch that was requested at `since` (`time.monotonic()`)."""
        self._input += time.monotonic() - since
        self._steps += 1

    def slowest(self) -> str | None:
        """Say which host waited longest for input, and start again; None with a single host.

        All hosts must call it together. Steps end at the same time everywhere, so that hosts differ
        only in the wait for their input:

            slowest input: process 2, 0.41 of 1.20 s a step
        """
        seconds = (self._input, time.monotonic() - self._start)
        means = np.array(seconds, np.float32) / max(self._steps, 1)
        self.begin()
        if jax.process_count() == 1:
            return None
        by_host = np.asarray(multihost_utils.process_allgather(means)).reshape(-1, 2)
        host = int(by_host[:, 0].argmax())
        waited, step = by_host[host]
        return f"slowest input: process {host}, {waited:.2f} of {step:.2f} s a step"
