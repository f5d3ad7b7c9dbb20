"""The command and its child process: signals, exit statuses and the messages about them."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

# The child runs the program that it is given instead of a training.
PROGRAM = """
import os, pathlib, signal, sys, time
from ranet_jax.cli import supervise

def say(text):
    print(text, file=sys.stderr, flush=True)

if not supervise.is_supervised():
    sys.exit(supervise.supervise(pathlib.Path(sys.argv[1]), 300, 30))
exec(sys.argv[2])
"""
GO_ON = "no step is saved; run the same command again in every process to continue.\n"


@pytest.fixture
def start(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with contextlib.ExitStack() as commands:

        def start(child):
            command = subprocess.Popen(
                [sys.executable, program, tmp_path / "run", child],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            commands.enter_context(command)
            commands.callback(command.kill)
            return command

        yield start


@pytest.mark.parametrize(
    "child, status, told",
    [
        ("say('hello'); sys.exit(3)", 3, "hello\n"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            137,
            "ranet: This process was ended by SIGKILL, which the kernel sends when memory runs"
            " out; " + GO_ON,
        ),
        (
            "say('@ stack'); os.abort()",
            134,
            f"@ stack\nranet: This process was ended by SIGABRT; {GO_ON}",
        ),
        (
            "say('before\\nF1129 Terminating process because the JAX distributed service detected"
            " fatal errors. absl::Status: UNAVAILABLE: gone\\n@ stack'); os.abort()",
            75,
            f"before\nranet: Process 0 is gone, or cannot be reached; {GO_ON}",
        ),
    ],
)
def test_how_the_child_ended(start, child, status, told):
    command = start(child)
    assert command.communicate(timeout=60)[1] == told
    assert command.returncode == status


@pytest.mark.parametrize("thread", [0, 1], ids=["main", "another"])
def test_a_signal_reaches_the_child_once(start, thread):
    child = """
caught = []
signal.signal(signal.SIGTERM, lambda *_: caught.append(1))
print("ready", flush=True)
while not caught:
    time.sleep(0.01)
time.sleep(0.2)
sys.exit(100 + len(caught))
"""
    command = start(child)
    assert command.stdout.readline() == "ready\n"
    threads = sorted(int(path.name) for path in pathlib.Path(f"/proc/{command.pid}/task").iterdir())
    assert len(threads) > 1
    os.kill(threads[thread], signal.SIGTERM)  # Linux gives it to that thread
    command.communicate(timeout=60)
    assert command.returncode == 101


FOLLOWING = "supervise.follow_supervisor(); print(os.getpid(), flush=True); time.sleep(60)"


def state(process):
    """The state of a process in /proc, such as "T" for a stopped one; None if it is gone."""
    try:
        text = pathlib.Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()[0]


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("before", ["", "print(os.getpid(), flush=True); time.sleep(2); "])
def test_the_child_ends_when_the_command_is_killed(start, before):
    """Also when that happens before the child starts to follow the command."""
    command = start(before + FOLLOWING)
    child = int(command.stdout.readline())
    command.kill()
    command.communicate()
    wait_for(lambda: state(child) in (None, "Z"))


def test_the_child_stops_and_goes_on_with_the_command(start):
    command = start(FOLLOWING)
    child = int(command.stdout.readline())
    command.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(child) == "T")
    command.send_signal(signal.SIGCONT)
    wait_for(lambda: state(child) == "S")
    os.kill(child, signal.SIGKILL)
    command.communicate(timeout=60)
    assert command.returncode == 137
