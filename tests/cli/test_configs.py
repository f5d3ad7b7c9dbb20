"""Configs on the command line: files that fail, fields that are set by arguments."""

import re

import pytest

from helpers.camvid_source import CONFIG
from ranet_jax.config import default_config
from ranet_jax.config_files import load_config, override


@pytest.fixture
def root(tmp_path):
    """A folder with a config."""
    (tmp_path / "config.py").write_text(CONFIG.format(data_dir=str(tmp_path)))
    return tmp_path


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "has no get_config"),
        ("def get_config(:\n", "SyntaxError.*line 1"),
        ("import no_such_module\n", "fails in line 1: ModuleNotFoundError.*no_such_module"),
        ("def get_config():\n    return 1 / 0\n", "fails in line 2: ZeroDivisionError"),
        ("def get_config():\n    return {}\n", "does not return a ConfigDict"),
        (
            CONFIG.format(data_dir="").replace("eval.batch_size", "eval.batchsize"),
            'fails in line 13: AttributeError: Key "batchsize" does not exist',
        ),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config():\n"
            "    return ConfigDict({'data': {'nmae': 'camvid'}})\n",
            "no field 'data.nmae'",
        ),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config():\n"
            "    return ConfigDict({'train': {'steps': '3'}})\n",
            "Field 'train.steps' .* type int such as 40000, not '3'",
        ),
    ],
)
def test_a_config_file_that_fails(text, sentence, tmp_path, refusal):
    path = tmp_path / "experiment.py"
    path.write_text(text)
    message = refusal("inspect", "--config", path)
    assert re.search(sentence, message)
    assert len(message) < 500


def test_a_config_that_is_no_python_file(tmp_path, refusal):
    assert "missing.py is missing" in refusal("inspect", "--config", tmp_path / "missing.py")
    (tmp_path / "config.yaml").write_text("seed: 3")
    assert "is not a Python file" in refusal("inspect", "--config", tmp_path / "config.yaml")


def test_a_config_of_the_working_directory_goes_before_one_that_came_with_the_package(
    tmp_path, monkeypatch, refusal
):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/shapes.py").seed == 0
    assert "is missing" in refusal("inspect", "--config", "configs/unknown.py")
    (tmp_path / "configs").mkdir()
    text = "from ranet_jax.config import default_config\ndef get_config():\n"
    text += "    config = default_config()\n    config.seed = 3\n    return config\n"
    (tmp_path / "configs" / "shapes.py").write_text(text)
    assert load_config("configs/shapes.py").seed == 3


@pytest.mark.parametrize(
    "argument, sentence",
    [
        ("--config.train.step=3", "no field 'train.step'"),
        ("--config.trian.steps=3", "no field 'trian.steps'"),
        ("--config.train=3", "no field 'train'"),
        ("--config.model={}", "no field 'model'"),
        ("--config.=3", "no field ''"),
        ("--config.train.steps=many", "'train.steps' .* type int .* not 'many'"),
        ("--config.train.steps=2.5", "'train.steps' .* not 2.5"),
        ("--config.train.steps=3+", "'train.steps' .* not '3\\+'"),
        ("--config.train.steps=", "'train.steps' .* not ''"),
        ("--config.train.steps=None", "'train.steps' .* not None"),
        ("--config.data.crop_size=65", "'data.crop_size' .* such as \\(769, 769\\), not 65"),
        ("--config.data.crop_size=(65,)", "'data.crop_size' .* not \\(65,\\)"),
        ("--config.data.flip=yes", "'data.flip' .* type bool .* not 'yes'"),
        ("--config.train.steps", "'--config.train.steps' is not an option"),
        ("--configtrain.steps=3", "is not an option"),
        ("--steps=3", "'--steps=3' is not an option"),
        ("steps", "'steps' is not an option"),
    ],
)
def test_an_override_that_fits_no_field(argument, sentence, root, refusal):
    assert re.search(sentence, refusal("inspect", "--config", root / "config.py", argument))


def test_overrides_take_the_types_of_their_fields():
    arguments = {
        "seed": "7",
        "data.name": "123",
        "data.crop_size": "(65, 97)",
        "data.flip": "False",
        "data.train_split": "train[:10]",
        "optimizer.learning_rate": "1",
        "optimizer.clip_norm": "1e-1",
        "optimizer.lr_multipliers": "(('backbone/.*', 0.1),)",
        "eval.scales": "(0.5, 1)",
    }
    config = override(default_config(), [f"--config.{k}={v}" for k, v in arguments.items()])
    assert config.seed == 7
    assert config.data.name == "123"
    assert config.data.crop_size == (65, 97)
    assert config.data.flip is False
    assert config.data.train_split == "train[:10]"
    assert config.optimizer.learning_rate == 1.0
    assert config.optimizer.clip_norm == 0.1
    assert config.optimizer.lr_multipliers == (("backbone/.*", 0.1),)
    assert config.eval.scales == (0.5, 1.0)


def test_a_network_that_cannot_be_built(root, refusal):
    inspect = ("inspect", "--config", root / "config.py")
    assert "backbone is 'vgg'" in refusal(*inspect, "--config.model.backbone=vgg")
    assert "dtype is 'int8'" in refusal(*inspect, "--config.model.dtype=int8")
    steps = refusal(*inspect, "--config.model.channels=0")
    assert steps.startswith("--config.model.channels is 0")  # the field as it is typed
