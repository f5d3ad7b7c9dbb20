"""Data sets that are prepared, damaged, or not there: how they are opened and described."""

import shutil
import signal
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from helpers.blocks import Blocks, take
from ranet_data.shapes import shapes_dataset_builder
from ranet_jax.errors import NotPreparedError, UserError
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline import preparation

pytestmark = pytest.mark.slow


class FewNames(Blocks):
    METADATA = tfds.core.MetadataDict(class_names=["a", "b", "c"], palette=[(0, 0, 0)] * 3)


class NoNames(Blocks):
    METADATA = tfds.core.MetadataDict(palette=[(0, 0, 0)] * 3)


class NoMetadata(Blocks):
    METADATA = None


class IgnoresZero(Blocks):
    METADATA = tfds.core.MetadataDict(class_names=["a"], palette=[(0, 0, 0)], ignore_label=0)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    for builder in (Blocks, FewNames, NoNames, NoMetadata, IgnoresZero):
        builder(data_dir=directory).download_and_prepare()
    return directory


@pytest.fixture
def builder(config):
    return data_input.open_dataset(config.data)


def test_metadata_comes_from_the_prepared_files(builder):
    metadata = data_input.dataset_metadata(builder)
    assert metadata.name == "blocks"
    assert metadata.class_names == ("a", "b", "c", "d", "e")
    assert metadata.palette[2] == (2, 2, 2)
    assert metadata.ignore_label == 255


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_names", "'no_names' in .* has no class_names;"),
        ("no_metadata", "has no class_names and no palette;"),
        ("ignores_zero", "'ignores_zero' ignores label 0; store such pixels as 255"),
    ],
)
def test_metadata_that_does_not_serve_is_refused(config, name, message):
    config.data.name = name
    with pytest.raises(UserError, match=message):
        data_input.dataset_metadata(data_input.open_dataset(config.data))


def test_label_out_of_range_is_refused(config):
    config.data.name = "few_names"
    builder = data_input.open_dataset(config.data)
    message = r"Split 'train' of 'few_names' is at fault\. A label map holds the value [34],"
    with pytest.raises(UserError, match=message):
        take(data_input.train_batches(config, builder), 3)
    with pytest.raises(UserError, match="'val' of 'few_names' is at fault"):
        take(data_input.evaluation_batches(config, builder, "val"), 4)


def test_newest_version_is_opened_by_number(config, data_dir, tmp_path):
    shutil.copytree(data_dir / "blocks" / "9.0.0", tmp_path / "blocks" / "9.0.0")
    newer = tmp_path / "blocks" / "10.0.0"
    shutil.copytree(data_dir / "blocks" / "9.0.0", newer)
    info = newer / "dataset_info.json"
    info.write_text(info.read_text().replace("9.0.0", "10.0.0"))
    (tmp_path / "blocks" / "11.0.0").mkdir()  # not prepared
    shutil.copytree(newer, tmp_path / "blocks" / "12.0.0.incomplete1A2B3C")  # killed
    config.data.data_dir = str(tmp_path)
    assert str(data_input.open_dataset(config.data).version) == "10.0.0"


def test_a_data_set_that_is_not_prepared_is_named_with_its_place(config, tmp_path, monkeypatch):
    config.data.update(name="shapes", data_dir=str(tmp_path))
    with pytest.raises(NotPreparedError) as caught:
        data_input.open_dataset(config.data)
    error = caught.value
    assert str(error) == f"Data set 'shapes' is not prepared in {tmp_path}; prepare it first."
    assert (error.name, error.data_dir) == ("shapes", str(tmp_path))
    config.data.data_dir = None
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "other"))
    with pytest.raises(NotPreparedError, match=f"in {tmp_path}/other; prepare it") as caught:
        data_input.open_dataset(config.data)
    assert caught.value.data_dir is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 3}'])
@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "metadata.json"])
def test_a_damaged_description_is_named(config, data_dir, tmp_path, file, content):
    shutil.copytree(data_dir / "blocks", tmp_path / "blocks")
    (path,) = (tmp_path / "blocks").glob(f"*/{file}")
    path.write_text(content)
    config.data.data_dir = str(tmp_path)
    with pytest.raises(UserError, match=f"{path.parent}"):
        data_input.dataset_metadata(data_input.open_dataset(config.data))


def test_what_is_prepared_but_damaged_is_not_taken_for_prepared(tmp_path):
    path = tmp_path / "shapes" / str(shapes_dataset_builder.Builder.VERSION) / "features.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    (path.parent / "dataset_info.json").write_text("{}")
    message = f"data set 'shapes' in {tmp_path}/shapes is damaged .*; remove the directory"
    with pytest.raises(UserError, match=message):
        preparation.prepare("shapes", None, str(tmp_path))


def test_default_directory_is_read_when_called(config, data_dir, tmp_path, monkeypatch):
    config.data.data_dir = None
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert data_input.open_dataset(config.data).name == "blocks"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=str(tmp_path)):
        data_input.open_dataset(config.data)
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_input.default_data_dir() == tmp_path / "home" / "tensorflow_datasets"


def test_unknown_data_set_and_needless_source_are_refused(tmp_path):
    message = r"no data set 'shape'; choose one of camvid, .*folder, .*shapes\."
    with pytest.raises(UserError, match=message):
        preparation.prepare("shape", None, str(tmp_path))
    with pytest.raises(UserError, match="'shapes' is drawn by a program and takes no source"):
        preparation.prepare("shapes", str(tmp_path), str(tmp_path))


def test_unwritable_directory_is_named(tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(UserError, match=f"Preparing 'shapes' in {occupied} failed"):
        preparation.prepare("shapes", None, str(occupied))


def test_what_a_killed_preparation_left_is_removed(tmp_path, monkeypatch):
    """SIGKILL comes while records are written; TFDS would leave them there forever."""
    program = (
        "import os, signal, sys\n"
        "from ranet_data.shapes import scenes\n"
        "from ranet_jax.pipeline import preparation\n"
        "scenes.render_scene = lambda rng: os.kill(os.getpid(), signal.SIGKILL)\n"
        "preparation.prepare('shapes', None, sys.argv[1])\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "shapes").iterdir())) == 1
    monkeypatch.setattr(shapes_dataset_builder, "SPLIT_SIZES", {"train": 2, "val": 1})
    preparation.prepare("shapes", None, str(tmp_path))
    assert [path.name for path in (tmp_path / "shapes").iterdir()] == ["1.0.0"]


def test_importing_the_module_does_not_import_tensorflow():
    program = (
        "import sys, ranet_jax.pipeline.examples;"
        "sys.exit(any(name.split('.')[0].startswith('tensorflow') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
