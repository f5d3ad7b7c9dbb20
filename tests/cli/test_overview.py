"""`ranet` alone, and the examples of each command's help."""

import json
import shlex

import pytest

from ranet_jax.cli import main as command
from ranet_jax.cli.main import COMMANDS, build_parser


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder in which commands are typed, and an empty directory of data sets."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def shown(capsys):
    assert command([]) == 0
    return capsys.readouterr().out


def test_in_an_empty_folder_data_are_to_be_prepared(here, capsys):
    text = shown(capsys)
    assert f"data sets in {here.parent / 'tfds'}: none" in text
    assert "\nruns: none\n" in text
    assert "  ranet prepare shapes\n" in text


def test_what_there_is_and_what_comes_next(here, capsys):
    tfds = here.parent / "tfds"
    for name, version in (("mine", "1.0.0"), ("half", "1.0.0.incomplete"), ("shapes", "1.0.0")):
        (tfds / name / version).mkdir(parents=True)
    (tfds / "mine/1.0.0/dataset_info.json").touch()
    text = shown(capsys)
    assert f"data sets in {tfds}: mine\n" in text
    assert "ranet train --data mine --minutes 30 --workdir runs/mine" in text

    (here / "runs/a/checkpoints/20").mkdir(parents=True)
    (here / "runs/a/checkpoints/100").mkdir()
    (here / "runs/a/config.json").write_text(json.dumps({"train": {"steps": 300}}))
    (here / "runs/damaged/checkpoints/7").mkdir(parents=True)
    (here / "runs/damaged/config.json").write_text('{"train": {"steps": "many"}}')
    (here / "runs/empty/checkpoints").mkdir(parents=True)
    (here / "weights/resnet18").mkdir(parents=True)
    (here / "weights/resnet18/port.json").touch()
    text = shown(capsys)
    assert "runs/a (step 100 of 300)" in text
    assert "runs/damaged (step 7)" in text
    assert "runs/empty" not in text
    assert "ported weights: weights/resnet18\n" in text
    assert "ranet evaluate runs/" in text


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__)
def test_each_command_has_two_examples_that_can_be_typed(module, capsys):
    name = module.__name__.rpartition(".")[2]
    assert len(module.EXAMPLES) >= 2
    for example in module.EXAMPLES:
        program, *arguments = shlex.split(example)
        parsed, others = build_parser().parse_known_args(arguments)
        assert (program, parsed.command) == ("ranet", name)
        assert all(each.startswith("--config.") for each in others)
        assert not others or parsed.takes_overrides
    with pytest.raises(SystemExit):
        command([name, "--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {example}\n" in text for example in module.EXAMPLES)
