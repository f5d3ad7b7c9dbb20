"""A wheel, installed where there is no checkout: what is in it, and that its commands work."""

import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest
from PIL import Image

from helpers.fakes import DATASET, primary_image, random_variables
from ranet_jax.config import default_config
from ranet_jax.inference.model import Model
from ranet_jax.models import build_model

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = {"configs": "ranet_configs", "data": "ranet_data", "ranet_jax": "ranet_jax"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy, because a build leaves files that the next one would pack."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index")
    command = (*command, "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run([*command, "--wheel-dir", directory, source], check=True, text=True)
    (path,) = directory.glob("*.whl")
    return path


class Installed:
    """An environment with the wheel, used from an empty folder."""

    def __init__(self, environment, away):
        self.directory = environment
        self._away = away

    def run(self, program, *arguments):
        done = subprocess.run(
            [self.directory / "bin" / program, *map(str, arguments)],
            cwd=self._away,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ranet(self, *arguments):
        return self.run("ranet", *arguments)

    def python(self, script):
        return self.run("python", "-c", script)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel in a new environment, with the dependencies of this one beside it."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False)
    command = (sys.executable, "-m", "pip", "--python", directory / "bin" / "python", "install")
    subprocess.run([*command, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    # A path in a .pth file adds modules, but does not obey the .pth files beside them: an editable
    # install of this checkout stays out.
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    return Installed(directory, tmp_path_factory.mktemp("away"))


def test_the_wheel_holds_every_module_and_what_it_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert "ranet_jax/py.typed" in names
    assert "ranet_configs/shapes.py" in names
    assert "ranet_data/camvid/README.md" in names
    (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES.values(), licence.split("/")[0]}
    assert not any("test" in pathlib.PurePath(name).name for name in names)


def test_the_metadata_names_licence_extras_and_the_paper(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().split("\n\n")[0].splitlines()
    assert "License-Expression: Apache-2.0" in lines
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra: ")}
    assert extras == {
        *("aot", "cuda", "data", "docs", "elastic", "explore", "gcs", "hub", "onnx"),
        *("s3", "tflite", "tiff", "torch", "tpu", "video"),
    }
    assert any(line.startswith("Project-URL: Paper, https://papers.nips.cc/") for line in lines)


def test_all_packages_come_from_the_wheel(installed):
    names = ", ".join(PACKAGES.values())
    output = installed.python(f"import {names}\nfor p in ({names}): print(p.__file__)")
    assert all(line.startswith(str(installed.directory)) for line in output.splitlines())


def test_its_help_lists_the_commands(installed):
    output = installed.ranet("--help")
    for command in ("prepare", "train", "evaluate", "predict", "port", "reproduce", "inspect"):
        assert command in output


def test_it_inspects_a_config_that_came_with_it(installed):
    assert "parameters in total" in installed.ranet("inspect", "--config", "configs/shapes.py")


@pytest.mark.long
def test_it_finds_the_experiment_that_a_table_starts_from(installed):
    output = installed.python(
        "from ranet_jax.reproduce import base_config; print(base_config('camvid'))"
    )
    assert output.startswith(str(installed.directory))


def test_it_predicts_with_an_exported_model(installed, tmp_path):
    config = default_config()
    config.model.update(backbone="resnet18", width=4, stages=1, channels=8, num_regions=4)
    module = build_model(config, DATASET.num_classes)
    model = Model(config, module, random_variables(module), DATASET)
    model.save(tmp_path / "model")
    photo, output = tmp_path / "photo.png", tmp_path / "predictions"
    Image.fromarray(primary_image(24, 32)).save(photo)
    installed.ranet("predict", tmp_path / "model", photo, "--output", output)
    with Image.open(output / "photo_labels.png") as labels:
        assert (labels.mode, labels.size) == ("P", (32, 24))
