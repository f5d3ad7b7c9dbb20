"""`ranet train --distributed` as processes on this machine, on the toy data of `toy_command`."""

import os
import pathlib
import socket
import subprocess
import sys
import time

from helpers import toy_command, xla
from ranet_jax.checkpoints.steps import finished_steps

TESTS = pathlib.Path(toy_command.__file__).parents[1]
PATH = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(workdir, port, index, *options, count=2, **environment):
    program = [sys.executable, toy_command.__file__, "train", "--config", toy_command.__file__]
    program += ["--workdir", workdir, "--distributed", "--coordinator", f"localhost:{port}"]
    program += ["--num-processes", str(count), "--process-id", str(index), *options]
    return subprocess.Popen(
        program,
        env=os.environ | {"XLA_FLAGS": xla.flags(1), "PYTHONPATH": PATH} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(process, patience=150):
    """Exit status and sentence on standard error, which must hold no C++ or Python stack trace."""
    told = process.communicate(timeout=patience)[1].splitlines()
    assert not [line for line in told if "@ " in line or "Traceback" in line], told
    sentences = [line.removeprefix("ranet: ") for line in told if line.startswith("ranet: ")]
    if process.returncode == 0:
        assert not sentences
        return 0, ""
    (sentence,) = sentences
    return process.returncode, sentence


def wait_for_step(workdir, processes):
    while not finished_steps(workdir / "checkpoints"):
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
