"""Two processes that share a directory resume from the same step, or both stop."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from helpers import xla
from ranet_jax import checkpoints

# Process `blind` cannot read step 3.
PROGRAM = """
import sys
import jax
import numpy as np
from ranet_jax import checkpoints
from ranet_jax.checkpoints import steps
from ranet_jax.errors import UserError

coordinator, process, workdir, blind = sys.argv[1:]
jax.distributed.initialize(coordinator, 2, int(process))
read = steps.read_state

def refuse(path):
    if path.name == "3":
        raise steps.DamagedError("it is out of reach")
    return read(path)

if process == blind:
    steps.read_state = refuse
template = {"params": {"step": np.zeros(())}, "batch_stats": {}}
with checkpoints.open_manager(workdir, 3) as manager:
    try:
        state = checkpoints.restore_latest(manager, template)
        print("step", int(state["params"]["step"]))
    except UserError as error:
        print("refused:", error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "blind, outcome",
    [
        pytest.param("0", "step 2", marks=pytest.mark.long),
        ("1", "cannot be read by process 1, although process 0 can"),
    ],
)
def test_hosts_agree_on_the_step(tmp_path, blind, outcome):
    with checkpoints.open_manager(tmp_path, 3) as manager:
        for step in (2, 3):
            state = {"params": {"step": np.full((), float(step))}, "batch_stats": {}}
            checkpoints.save(manager, step, state)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, coordinator, str(index), str(tmp_path), blind],
            env=os.environ | {"XLA_FLAGS": xla.flags(1)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in processes:
        printed, _ = process.communicate(timeout=60)
        assert outcome in printed
