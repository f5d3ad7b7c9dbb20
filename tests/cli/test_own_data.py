"""`ranet train --data`: a folder of images becomes a run that is resumed, scored and predicts."""

import json

import pytest

from helpers.folder_source import make_source
from ranet_jax.cli import main

pytestmark = pytest.mark.slow

# A network that compiles in seconds, and few steps; the rest is fitted.
KEPT = ("model.width=4", "model.stages=1", "model.channels=8", "model.context=none")
KEPT += ("train.steps=3", "train.patience=1", "data.rotation=10")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("own_data")
    source = str(make_source(root / "source"))
    options = ["--source", source, "--data-dir", str(root / "tfds"), "--name", "mine"]
    assert main(["prepare", "folder", *options]) == 0
    return root


def command(root, *options):
    named = ["--data", "mine", "--data-dir", str(root / "tfds"), "--workdir", str(root / "run")]
    return ["train", *named, *options, *(f"--config.{field}" for field in KEPT)]


@pytest.fixture(scope="module")
def config(root):
    """The config that the run of `train --data` saved."""
    assert main(command(root, "--minutes", "60")) == 0
    return json.loads((root / "run" / "config.json").read_text())


def test_the_run_keeps_what_was_chosen(config):
    assert config["data"]["name"] == "mine"
    assert config["data"]["crop_size"] == [16, 32]  # from images of 24 x 32, 20 x 28, 17 x 40
    assert len(config["loss"]["class_weights"]) == 3
    assert (config["train"]["steps"], config["train"]["patience"]) == (3, 1)
    assert config["model"]["width"] == 4
    assert config["data"]["rotation"] == 10.0


def test_the_same_command_goes_on_and_the_run_is_a_run(config, root, tmp_path, capsys):
    assert main(command(root)) == 0
    shown = capsys.readouterr().out
    assert f"{root / 'run'} resumes with its saved config, of 3 steps in total." in shown
    assert "config.train.steps" not in shown  # nothing is fitted again
    assert main(["evaluate", str(root / "run")]) == 0
    image = str(root / "source" / "images" / "test" / "f.png")
    assert main(["predict", str(root / "run"), image, "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "f_labels.png").is_file()
    assert json.loads((root / "run" / "config.json").read_text()) == config


def test_a_run_keeps_its_steps_and_its_crops(config, root, capsys):
    for field in ("train.steps=5", "data.crop_size=(32,32)"):
        assert main([*command(root), f"--config.{field}"]) == 1
        name = field.partition("=")[0]
        assert f"made with another config ({name} differ)" in capsys.readouterr().err


def test_options_that_do_not_go_together(root, tmp_path, refusal):
    train = ("train", "--workdir", str(tmp_path / "run"))
    for option, value in (("--minutes", "3"), ("--init", "weights"), ("--data-dir", "x")):
        message = refusal(*train, "--config", "configs/shapes.py", option, value)
        assert message == f"{option} has no meaning without --data; leave it out."
    assert "--minutes is 0.0; choose a number above 0" in refusal(
        *train, "--data", "mine", "--minutes", "0"
    )
    assert "--minutes is nan" in refusal(*train, "--data", "mine", "--minutes", "nan")
    assert "--data works in one process only" in refusal(*train, "--data", "mine", "--distributed")
    message = refusal(*train, "--data", "mine", "--data-dir", str(tmp_path))
    assert "'mine' is not prepared" in message
    for both in ((), ("--data", "mine", "--config", "configs/shapes.py")):
        with pytest.raises(SystemExit, match="2"):
            main([*train, *both])
    assert list(tmp_path.iterdir()) == []
