"""Signals that end training in good order."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

# Signals that end training after the step under way.
CAUGHT = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def catch_signals() -> Iterator[Callable[[int], signal.Signals | None]]:
    """Yield a function of the step: the signal to stop after it for, the same on all hosts.

    That is SIGTERM or, where there is one host, the first Ctrl-C (SIGINT); a second one interrupts
    at once.
    """
    if jax.process_count() > 1:
        reached = multihost_utils.reached_preemption_sync_point
        yield lambda step: signal.SIGTERM if reached(step) else None
        return
    received: list[signal.Signals] = []

    def receive(number: int, frame: object) -> None:
        if number == signal.SIGINT:
            if received:
                raise KeyboardInterrupt
            tqdm.write("Stopping after this step; Ctrl-C again stops at once.", file=sys.stderr)
        received.append(signal.Signals(number))

    previous = {number: signal.signal(number, receive) for number in CAUGHT}
    try:
        yield lambda step: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
