"""A fixture that the tests of several commands share."""

import pytest

from ranet_jax.cli import main


@pytest.fixture
def refusal(capsys):
    """Run a command that must fail, and return its one-sentence error message."""

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        (line,) = shown.err.splitlines()
        assert line.startswith("ranet: ")
        assert line.endswith(".")
        return line.removeprefix("ranet: ")

    return run
