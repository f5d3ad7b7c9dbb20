"""Signals that end training cleanly."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

from ranet_jax.errors import Interrupted

# Signals that end training after the step under way.
CAUGHT = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """The first signal that came: SIGTERM or, with a single host, Ctrl-C (SIGINT).

    As long as there is no step to save, the signal raises `Interrupted` at once. Inside `defer`,
    the training checks for the signal itself, and only a second Ctrl-C interrupts at once.
    """

    def __init__(self) -> None:
        self._received: list[signal.Signals] = []
        self._deferred = False

    def receive(self, number: int, frame: object) -> None:
        """Handle a signal."""
        again = bool(self._received)
        self._received.append(signal.Signals(number))
        if not self._deferred:
            self.check()
        if number == signal.SIGINT:
            if again:
                raise KeyboardInterrupt
            tqdm.write(
                "Stopping after this step; press Ctrl-C again to stop at once, or after a save that"
                " has begun.",
                file=sys.stderr,
            )

    @contextlib.contextmanager
    def defer(self) -> Iterator[None]:
        """Let the training check for the signal; one that has come already raises `Interrupted`."""
        self.check()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def after(self, step: int) -> signal.Signals | None:
        """The signal for which to stop after a step, if any; the same on all hosts."""
        if jax.process_count() > 1:
            reached = multihost_utils.reached_preemption_sync_point
            return signal.SIGTERM if reached(step) else None
        return self._received[0] if self._received else None

    def check(self, when: str = "") -> None:
        """Raise `Interrupted` if a signal came; `when` says what is done by then."""
        if self._received:
            raise interrupted(self._received[0], when)


def interrupted(by: signal.Signals, when: str = "") -> Interrupted:
    """The exception that ends a training for a signal."""
    return Interrupted(
        f"Stopped by {by.name}{when}; run the same command again to resume.", status=128 + by
    )


_active: list[Stop] = []


@contextlib.contextmanager
def catch_signals() -> Iterator[Stop]:
    """Catch the signals of a single host; inside another `catch_signals`, yield that one's `Stop`.

    With several hosts, JAX catches SIGTERM itself. Outside the main thread, signals are not caught.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread:
        yield Stop()
        return
    if _active:
        yield _active[0]
        return
    stop = Stop()
    previous = {}
    _active.append(stop)
    try:
        alone = not jax.distributed.is_initialized() or jax.process_count() == 1
        if alone:
            previous = {number: signal.signal(number, stop.receive) for number in CAUGHT}
        yield stop
    finally:
        _active.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)
