"""Programs that one command compiles and the next one reads, each in a separate process."""

import argparse
import os
import subprocess
import sys

import jax
import pytest
from PIL import Image

from helpers.fakes import DATASET, primary_image, random_variables
from ranet_jax.cli import compilation_cache, main
from ranet_jax.cli.main import build_parser
from ranet_jax.config import default_config
from ranet_jax.inference.model import Model
from ranet_jax.models import build_model

# Runs `ranet`, then prints JAX's counters of the compilation cache.
PROGRAM = """
import sys
from collections import Counter
from jax import monitoring
from ranet_jax.cli import main
events = Counter()
monitoring.register_event_listener(lambda name, **_: events.update([name.split("/")[-1]]))
status = main(sys.argv[1:])
names = "compile_requests_use_cache", "cache_hits", "cache_misses"
print("events", *(events[name] for name in names))
sys.exit(status)
"""


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    """Run `ranet predict` on one image; return the requests to the cache, hits and misses."""
    directory = tmp_path_factory.mktemp("predict")
    config = default_config()
    config.data.crop_size = (17, 17)
    config.model.update(backbone="resnet18", stages=3, width=8, channels=8, context="none")
    module = build_model(config, DATASET.num_classes)
    Model(config, module, random_variables(module), DATASET).save(directory / "model")
    Image.fromarray(primary_image(17, 17)).save(directory / "image.png")

    def run(environment, *options):
        files = [str(directory / name) for name in ("model", "image.png", "output")]
        arguments = ["predict", *files[:2], "--output", files[2], *options]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
        finished = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=inherited | {"JAX_PLATFORMS": "cpu"} | environment,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        assert "Error" not in finished.stderr
        counts = next(x for x in finished.stdout.splitlines() if x.startswith("events"))
        return tuple(map(int, counts.split()[1:]))

    return run


def files_below(path):
    return {p.relative_to(path) for p in path.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_second_start_compiles_nothing(predict, tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    requests, hits, misses = predict(environment)
    assert misses > 0
    files = files_below(tmp_path)
    assert all(path.is_relative_to("ranet_jax/compiled") for path in files)
    assert predict(environment) == (requests, hits + misses, 0)
    assert files_below(tmp_path) >= files


@pytest.mark.slow
@pytest.mark.long
def test_without_a_cache_nothing_is_written(predict, tmp_path):
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
    home = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    assert predict(home | own, "--no-cache") == (0, 0, 0)
    assert files_below(tmp_path) == set()


@pytest.mark.slow
@pytest.mark.long
def test_a_cache_that_cannot_be_written_is_done_without(predict, tmp_path):
    (tmp_path / "file").touch()
    assert predict({"XDG_CACHE_HOME": str(tmp_path / "file")})[1:] == (0, 0)


@pytest.fixture
def settings(monkeypatch):
    """Record the JAX settings that `use_cache` makes instead of applying them."""
    made = {}
    monkeypatch.setattr(jax.config, "update", made.__setitem__)
    return made


def test_the_users_own_directory_stays(settings):
    assert jax.config.values["jax_compilation_cache_dir"], "the tests have one"
    compilation_cache.use_cache(argparse.Namespace(no_cache=False))
    assert settings == {}


@pytest.mark.parametrize("named", [None, "", "relative/caches"])
def test_the_directory_is_the_users(named, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if named is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", named)
    expected = tmp_path / ".cache/ranet_jax/compiled"
    assert compilation_cache.cache_directory() == expected


def test_the_oldest_files_go_until_the_rest_fits(tmp_path):
    for age, name in enumerate(("new", "old", "older")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    compilation_cache.remove_oldest(tmp_path, 30)
    assert len(files_below(tmp_path)) == 3
    compilation_cache.remove_oldest(tmp_path, 25)
    assert {path.name for path in files_below(tmp_path)} == {"new", "old"}


def test_commands_that_compile_a_network_for_the_user_take_the_option():
    options = {
        "predict": ["model", "a.png", "--output", "o"],
        "evaluate": ["model"],
        "train": ["--config", "c.py", "--workdir", "w"],
    }
    for command, arguments in options.items():
        assert not build_parser().parse_args([command, *arguments]).no_cache
        assert build_parser().parse_args([command, *arguments, "--no-cache"]).no_cache


def test_other_commands_refuse_it(capsys):
    assert main(["pack", "shapes", "--output", "a.npz", "--no-cache"]) == 1
    assert "--no-cache" in capsys.readouterr().err
