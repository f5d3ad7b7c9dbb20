"""Models in the form of the hub: what is written, what is read back unchanged, what is refused."""

import errno
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

import ranet_jax
from helpers import damage
from helpers.fakes import primary_image, random_variables
from helpers.scored_run import DATASET, STEP
from helpers.small_models import block_id, small_config
from ranet_jax import porting
from ranet_jax.checkpoints import fingerprint
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.models.context import BLOCKS

pytestmark = pytest.mark.slow


def test_what_is_read_back_predicts_the_same_bit_for_bit(model, published):
    loaded = ranet_jax.from_pretrained(published)
    image = primary_image(30, 45)
    expected, found = model.predict(image), loaded.predict(image)
    for name in ("probabilities", "labels", "coarse"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
    assert (loaded.dataset, loaded.step, loaded.settings) == (DATASET, STEP, model.settings)


def test_the_weights_are_those_that_port_reverse_writes(run, published, tmp_path):
    naming, _ = porting.reverse(run, tmp_path / "weights.safetensors")
    assert naming == "ranet_jax"
    expected = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    found = safetensors.numpy.load_file(published / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


@pytest.mark.long
@pytest.mark.parametrize("block", BLOCKS, ids=block_id)
def test_the_weights_of_every_block_come_back_bit_for_bit(block, tmp_path):
    config = small_config(block)
    config.data.crop_size = (33, 41)
    module = build_model(config, DATASET.num_classes)
    model = ranet_jax.Model(config, module, random_variables(module), DATASET)
    ranet_jax.save_pretrained(model, tmp_path / "model")
    loaded = ranet_jax.from_pretrained(tmp_path / "model")
    assert fingerprint(loaded.variables) == fingerprint(model.variables)
    assert loaded.module == module


def test_the_description_names_no_place_on_the_machine_of_training(model, published):
    fields = json.loads((published / "config.json").read_text())
    assert (fields["library_name"], fields["format"], fields["step"]) == ("ranet_jax", 1, STEP)
    assert fields["dataset"]["class_names"] == list(DATASET.class_names)
    assert fields["experiment"]["data"]["crop_size"] == [33, 41]
    assert not any(b"somebody" in path.read_bytes() for path in published.iterdir())
    assert model.config.data.data_dir is not None


def test_nothing_is_overwritten(model, published):
    before = {path: path.read_bytes() for path in published.iterdir()}
    with pytest.raises(UserError, match=f"{published} exists already; choose another"):
        ranet_jax.save_pretrained(model, published)
    assert {path: path.read_bytes() for path in published.iterdir()} == before


@pytest.mark.parametrize("place", ["hub.directory.write_text", "porting.files.WRITERS"])
def test_a_full_disk_leaves_nothing(model, tmp_path, monkeypatch, place):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    replacement = {".safetensors": fail} if place.endswith("WRITERS") else fail
    monkeypatch.setattr(f"ranet_jax.{place}", replacement)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        ranet_jax.save_pretrained(model, tmp_path / "full")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published, tmp_path / "copy")


def refusal(directory, **options):
    with pytest.raises(UserError) as error:
        ranet_jax.from_pretrained(directory, **options)
    return str(error.value)


@pytest.mark.parametrize("spoil", damage.KINDS)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_named(copy, name, spoil):
    spoil(copy / name)
    assert f"{copy / name} " in refusal(copy) or f"{copy} holds no published" in refusal(copy)


def test_a_changed_bit_of_the_weights_is_found(copy):
    damage.flip(copy / "model.safetensors", -1000)
    assert "model.safetensors has a different checksum than when it was written" in refusal(copy)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2, "library_version": "9.0"}, "has the format 2 of ranet_jax 9.0, and this"),
        ({"library_name": "timm"}, "does not describe a published model of ranet_jax"),
        ({"step": "7"}, "has the step '7'"),
        ({"experiment": None}, "is not the config of a training"),
        ({"experiment": {"model": {"walk": 1}, "data": {}, "train": {}}}, "no field 'model.walk'"),
        ({"dataset": {"name": "sides"}}, "The description of a data set is malformed"),
    ],
)
def test_a_description_of_something_else(copy, change, sentence):
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert sentence in refusal(copy)


def test_weights_of_another_network_are_reported(copy):
    (copy / "manifest.json").unlink()
    tensors = safetensors.numpy.load_file(copy / "model.safetensors")
    del tensors["fine_logit.bias"]
    tensors["fine_logit.weight"] = np.zeros((3, 8, 1, 1), np.float32)
    tensors["walk"] = np.zeros(1, np.float32)
    safetensors.numpy.save_file(tensors, copy / "model.safetensors")
    lines = refusal(copy).splitlines()
    assert lines[0].endswith(
        "model.safetensors does not belong to config.json; restore both from a copy."
    )
    assert "  missing: fine_logit.bias (2,) of the network" in lines
    assert (
        "  mismatching: fine_logit.weight (3, 8, 1, 1), but the network has (2, 8, 1, 1)" in lines
    )
    assert "  unexpected: walk (1,)" in lines


def test_directories_of_something_else(run, published, tmp_path):
    assert "read runs and exported models with `ranet_jax.load`" in refusal(run)
    for directory in (tmp_path, tmp_path / "none"):
        assert f"{directory} holds no published model; name a directory" in refusal(directory)
    assert "which has no revisions" in refusal(published, revision="main")


def test_a_published_directory_is_read_as_a_run_is(model, published):
    loaded = ranet_jax.load(published, lambda config: config)
    assert fingerprint(loaded.variables) == fingerprint(model.variables)
    assert (loaded.dataset, loaded.step) == (DATASET, STEP)
    with pytest.raises(UserError, match=r"config\.model\.channels cannot be set here"):
        ranet_jax.load(published, change_channels)


def change_channels(config):
    config.model.channels = 9
    return config
