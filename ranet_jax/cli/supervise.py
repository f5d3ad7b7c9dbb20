"""One of several processes: a child that trains, and the command that reports how it ended.

When a process is lost, JAX aborts the others with a C++ stack on standard error. Therefore the
command that was started trains in a child process. It passes on signals, the child's output and
the child's exit status; instead of such a stack it prints one sentence and ends with status 75.
"""

import contextlib
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from typing import IO

from ranet_jax.files import numbered_names
from ranet_jax.files.paths import Path
from ranet_jax.training.process_options import LOST

VARIABLE = "RANET_JAX_SUPERVISOR"
FATAL = b"Terminating process because the JAX distributed service"
# The child stops itself within this many seconds after the command was stopped, with a margin.
STOPS_WITHIN = 5
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGCONT)


def is_supervised() -> bool:
    """Whether this process is such a child; the command that started it may be gone by now."""
    return VARIABLE in os.environ


def follow_supervisor() -> None:
    """Make this child end or stop when the command does or already did, for whatever reason.

    Processes that the child starts do not count as such children.
    """
    supervisor = int(os.environ.pop(VARIABLE))

    def follow() -> None:
        while True:
            if os.getppid() != supervisor:
                os.kill(os.getpid(), signal.SIGKILL)
            if _is_stopped(supervisor):
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1)

    threading.Thread(target=follow, daemon=True).start()


def _is_stopped(process: int) -> bool:
    """Whether a process was stopped, according to /proc; False if the system does not say."""
    with contextlib.suppress(OSError):
        state = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"
    return False


def supervise(workdir: Path, timeout: int, lost_after: int) -> int:
    """Start this command again as a child, wait for its end and return the exit status.

    Args:
      workdir: where the child saves its steps.
      timeout: seconds that the child waits for the other processes.
      lost_after: seconds without a heartbeat after which a process counts as lost.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []
    continued = -math.inf  # when this process last continued after a stop

    def forward(number: int, frame: object) -> None:
        nonlocal continued
        if number == signal.SIGCONT:
            continued = time.monotonic()
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        child = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env=os.environ | {VARIABLE: str(os.getpid())},
            stderr=subprocess.PIPE,
            process_group=0,  # a signal to the command's process group reaches it only once
        )
        for number in early:
            child.send_signal(number)
        assert child.stderr is not None
        held: list[bytes] = []
        relay = threading.Thread(target=_relay, args=(child.stderr, held), daemon=True)
        relay.start()
        # Wait in short turns: if another thread, such as one of NumPy's, takes a signal, the wait
        # is not interrupted.
        while (status := child.poll()) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
            # The child may have looked before it was told to continue, and stop itself afterwards.
            if time.monotonic() - continued < STOPS_WITHIN:
                child.send_signal(signal.SIGCONT)
        relay.join(5)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if status >= 0:
        _write(b"".join(held))
        return status
    if status == -signal.SIGABRT and held:
        text = b"".join(held).decode(errors="replace")
        what = f"{what_was_lost(text, timeout, lost_after)}; {going_on(workdir)}."
        status = LOST
    else:
        _write(b"".join(held))
        what = f"{_ended_by(-status)}; {going_on(workdir)}."
        status = 128 - status
    print(f"ranet: {what}", file=sys.stderr, flush=True)
    return status


def _relay(pipe: IO[bytes], held: list[bytes]) -> None:
    """Pass on what the child writes, but hold back everything from JAX's fatal error on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # the main thread must get these
    for line in pipe:
        if held or FATAL in line:
            held.append(line)
        else:
            _write(line)


def _write(text: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()


def what_was_lost(text: str, timeout: int, lost_after: int) -> str:
    """The beginning of a sentence that explains what JAX writes about its fatal error."""
    if "RegisterTask" in text:
        return (
            f"Not all processes joined within {timeout} s; start all of them, and make sure that"
            " each can reach the host and port of process 0, or give them more time with"
            " --join-timeout"
        )
    silent = re.search(r"unhealthy \(stopped sending heartbeats\):\n((?:\S*\d+\n)+)", text)
    if silent:
        numbers = sorted({int(re.findall(r"\d+", line)[-1]) for line in silent[1].splitlines()})
        one = len(numbers) == 1
        return (
            f"{'Process' if one else 'Processes'} {', '.join(map(str, numbers))}"
            f" {'is' if one else 'are'} gone, or stopped for {lost_after} s"
        )
    if "UNAVAILABLE" in text or "/Heartbeat" in text:
        return "Process 0 is gone, or cannot be reached"
    status = re.search(r"absl::Status: (.*)", text)
    return f"The other processes were lost ({(status[1] if status else text)[:200]})"


def _ended_by(number: int) -> str:
    name = signal.Signals(number).name
    if number == signal.SIGKILL:
        return f"This process was ended by {name}, which the kernel sends when memory runs out"
    return f"This process was ended by {name}"


def going_on(workdir: Path) -> str:
    """Which step was saved last, and what to run to continue."""
    steps = numbered_names(workdir / "checkpoints")
    saved = f"the last saved step is {steps[-1]}" if steps else "no step is saved"
    return f"{saved}; run the same command again in every process to continue"
