"""Completion scripts, as a shell runs them."""

import contextlib
import shutil
import subprocess

import pytest

from ranet_jax.cli import main
from ranet_jax.cli.main import COMMANDS


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash."""
    path = tmp_path_factory.mktemp("completion") / "ranet"
    with path.open("w") as file, contextlib.redirect_stdout(file), pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    return path


def completions(script, folder, *words):
    """The completions that bash offers for the last of the words."""
    program = f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))'
    program += "; $(complete -p ranet | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    program += '; printf "%s\\n" "${COMPREPLY[@]}"'
    run = [shutil.which("bash"), "-c", program, "bash", "ranet", *words]
    found = subprocess.run(run, check=True, cwd=folder, capture_output=True, text=True)
    return set(found.stdout.split())


def test_commands_and_options_are_completed(script, tmp_path):
    names = {command.__name__.rpartition(".")[2] for command in COMMANDS}
    assert completions(script, tmp_path, "") >= names
    assert completions(script, tmp_path, "pre") == {"prepare", "predict"}
    assert completions(script, tmp_path, "train", "--wor") == {"--workdir"}


def test_paths_are_completed(script, tmp_path):
    (tmp_path / "tiny.py").touch()
    assert completions(script, tmp_path, "train", "--config", "ti") == {"tiny.py"}


def test_shells_that_are_none(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--print-completion", "fish"])
    assert stopped.value.code == 2
    assert "invalid choice: 'fish' (choose from" in capsys.readouterr().err
