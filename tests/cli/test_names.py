"""File names that no file system accepts: every command ends with a one-sentence error."""

import pytest

from helpers import training
from ranet_jax import checkpoints
from ranet_jax.cli import main

LONG = ("x" * 300, "a/" * 3000 + "b")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("names") / "exported"
    variables = {"params": {"w": training.batch(0)["image"]}, "batch_stats": {}}
    checkpoints.export(directory, training.tiny_config(), training.DATASET, variables)
    return str(directory)


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize(
    "command",
    [
        "evaluate LONG",
        "evaluate EXPORTED --output LONG.json",
        "predict LONG a.png --output o",
        "predict EXPORTED LONG --output o",
        "port LONG --reverse --format pth",
        "port EXPORTED --reverse --format pth --output LONG.pth",
        "port LONG.pth --model resnet18 --output o",
        "port weights.pth --model resnet18 --output LONG",
        "publish LONG --output o",
        "publish EXPORTED --output LONG",
        "train --config LONG.py --workdir w",
        "train --config configs/shapes.py --workdir w --arrays LONG.npz",
    ],
)
def test_a_name_that_is_too_long(tmp_path, monkeypatch, capsys, exported, command, long):
    monkeypatch.chdir(tmp_path)
    words = command.replace("LONG", long).replace("EXPORTED", exported).split()
    assert main(words) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("ranet: ")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def failing(monkeypatch, error):
    def fail(arguments):
        raise error

    monkeypatch.setattr("ranet_jax.cli.inspect.run", fail)
    return main(["inspect", "--config", "configs/shapes.py"])


def test_an_error_of_the_file_system_ends_in_a_sentence(monkeypatch, capsys):
    assert failing(monkeypatch, OSError(28, "No space left on device", "x")) == 1
    assert "x cannot be read or written (No space left on device)" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_not_told(monkeypatch, capsys):
    assert failing(monkeypatch, BrokenPipeError()) == 1
    assert capsys.readouterr().err == ""


def test_an_error_without_a_file_is_not_taken_for_the_file_system_s(monkeypatch):
    with pytest.raises(OSError, match="connection"):
        failing(monkeypatch, OSError("connection"))
