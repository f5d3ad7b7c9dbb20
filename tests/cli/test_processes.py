"""The command line as a program: exit status, and what it imports."""

import os
import subprocess
import sys

import pytest

from ranet_jax.cli import main
from ranet_jax.cli import train as train_command
from ranet_jax.errors import Interrupted


@pytest.mark.slow
def test_the_program_ends_in_one_sentence(tmp_path):
    command = ["predict", "nothing", "a.png", "--output", "o"]
    program = [sys.executable, "-m", "ranet_jax", *command]
    finished = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith(f"ranet: {tmp_path / 'nothing'} holds no checkpoint")
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_operations_load_neither_tensorflow_nor_orbax():
    program = """
import sys
import ranet_jax
def loaded():
    names = "tensorflow", "tensorflow_datasets", "orbax", "flax", "PIL", "matplotlib"
    return [name for name in names if name in sys.modules]
assert ranet_jax.ops.segment_max
assert loaded() == [], loaded()
assert ranet_jax.load
assert not {"tensorflow", "tensorflow_datasets"} & set(loaded()), loaded()
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"XLA_FLAGS": ""})


def test_training_that_a_signal_stopped_has_a_status_of_its_own(monkeypatch, capsys):
    def stop(arguments):
        raise Interrupted("Stopped by SIGTERM after step 3.", status=143)

    monkeypatch.setattr(train_command, "run", stop)
    assert main(["train", "--config", "x.py", "--workdir", "x"]) == 143
    assert capsys.readouterr().err == "ranet: Stopped by SIGTERM after step 3.\n"
