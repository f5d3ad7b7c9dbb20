"""Commands do the same with data, runs and outputs on an object store as with local ones."""

import json
import os
import shutil
import signal
import tempfile

import jax
import numpy as np
import pytest

import ranet_jax
from helpers.camvid_source import make_source
from helpers.fakes import random_variables
from helpers.object_store import Bucket
from ranet_jax import checkpoints
from ranet_jax.cli import main
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.pipeline import examples
from ranet_jax.pipeline.arrays import ArrayDataset
from ranet_jax.training.initialization import initialize

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The directory that commands run in, which holds all files that they write on this machine."""
    place = tmp_path_factory.mktemp("stores")
    (place / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place / "home"))
        patch.setenv("XDG_CACHE_HOME", str(place / "caches"))
        patch.setattr(tempfile, "tempdir", str(place / "temporary"))
        patch.chdir(place)
        yield place


def tiny_config(data_dir):
    config = default_config()
    config.data.update(name="camvid", data_dir=data_dir, crop_size=(24, 32))
    config.model.update(context="none", backbone="resnet18", width=4, stages=1, channels=8)
    config.eval.batch_size = 2
    return config


CONFIG = """
from ranet_jax.config import default_config
from ranet_jax.errors import UserError

def get_config():
    config = default_config()
    config.model.update(context="none", backbone="resnet18", width=4, stages=1, channels=8)
    return config
"""


@pytest.fixture(scope="module")
def filled(place, object_store):
    """A bucket, and the local files to compare it with.

    Both hold the source `source/`, the data set prepared from it in `tfds/`, and in `run/` a run
    on that data set, with one checkpoint of random weights.
    """
    bucket = Bucket()
    make_source(place / "source")
    bucket.put_folder("source", place / "source")
    assert main(["prepare", "camvid", "--source=source", "--data-dir=tfds"]) == 0
    remote = [f"--source={bucket.url('source')}", f"--data-dir={bucket.url('tfds')}"]
    assert main(["prepare", "camvid", *remote]) == 0
    (place / "config.py").write_text(CONFIG)
    bucket.put("config.py", CONFIG.encode())
    for data_dir, run in (("tfds", place / "run"), (bucket.url("tfds"), place / "remote")):
        write_run(run, tiny_config(data_dir))
    bucket.put_folder("run", place / "remote")
    return bucket


def write_run(workdir, config):
    """A working directory with one checkpoint."""
    dataset = examples.dataset_metadata(examples.open_dataset(config.data))
    checkpoints.prepare_workdir(workdir, config, dataset)
    variables = random_variables(build_model(config, dataset.num_classes))
    with checkpoints.open_manager(workdir, 1) as manager:
        checkpoints.save(manager, 2, {"step": 2, "ema_params": None, **variables}, miou=0.5)


@pytest.fixture(autouse=True)
def _nothing_else_stays_here(place):
    yield
    left = os.listdir(place / "temporary")  # TFDS leaves its own files there
    assert not [name for name in left if name.startswith("ranet_jax_")]
    assert not [name for name in os.listdir(place) if name.startswith(("s3", "gs", "~"))]


def local_files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_data_set_is_prepared_as_on_a_disk(filled, place, capsys):
    found, expected = filled.files("tfds/"), local_files(place / "tfds")
    assert found.keys() == expected.keys()
    records = [name for name in found if "tfrecord" in name]
    assert len(records) == 3
    assert all(found[name] == expected[name] for name in records)
    url = filled.url("tfds")
    assert main(["prepare", "camvid", f"--source={filled.url('source')}", f"--data-dir={url}"]) == 0
    printed = capsys.readouterr().out
    assert f"was not read; delete {url}/camvid/1.0.0 to build it again." in printed
    assert filled.files("tfds/") == found


def test_a_source_that_is_bad_is_named_as_it_was_typed(filled, bucket, refusal):
    target = f"--data-dir={bucket.url('tfds')}"
    message = refusal("prepare", "camvid", f"--source={bucket.url('none')}", target)
    assert f"The source {bucket.url('none')} is missing or empty." in message
    bucket.put("source/train.txt", b"/SegNet/CamVid/train/a.png x\n")
    bucket.put("source/val.txt", b"")
    bucket.put("source/test.txt", b"")
    assert main(["prepare", "camvid", f"--source={bucket.url('source')}", target]) == 1
    assert bucket.files("tfds/") == {}


def test_a_run_is_evaluated_where_it_is(filled, place):
    for run in (filled.url("run"), "run"):
        assert main(["evaluate", run, "--pictures=1"]) == 0
    here = {n: x for n, x in local_files(place / "run").items() if n.startswith("evaluation_")}
    there = filled.files("run/")
    assert here.keys() == {
        "evaluation_val.json",
        "evaluation_val.png",
        "evaluation_val_confusion.png",
    }
    assert {name for name in there if "evaluation_" in name} == here.keys()  # and no journal
    found = json.loads(there["evaluation_val.json"])
    expected = json.loads(here["evaluation_val.json"])
    assert found["checkpoint"] == found["directory"] == filled.url("run")
    assert (found["step"], found["best_step"], found["fine"]) == (2, 2, expected["fine"])
    assert there["evaluation_val.png"] == here["evaluation_val.png"]


def test_images_are_predicted_from_and_to_a_store(filled, place):
    images = filled.url("source/test"), filled.url("source/val/e.png")
    assert main(["predict", filled.url("run"), *images, f"--output={filled.url('seen/')}"]) == 0
    assert main(["predict", "run", "source/test", "source/val/e.png", "--output=seen"]) == 0
    expected = local_files(place / "seen")
    assert len(expected) == 4
    assert filled.files("seen/") == expected


def test_an_image_that_is_missing_is_left_out(filled, bucket, capsys):
    images = filled.url("source/val/none.png"), filled.url("source/val/e.png")
    assert main(["predict", filled.url("run"), *images, f"--output={bucket.url('p')}"]) == 1
    assert f"{images[0]} cannot be read (No such file or directory);" in capsys.readouterr().err
    assert {name.split("_")[0] for name in bucket.files("p/")} == {"e"}


def test_training_starts_from_weights_on_a_store(filled, place):
    config = tiny_config("tfds")
    variables = random_variables(build_model(config, 11), seed=1)
    found = []
    for config.model.init_from in (filled.url("run"), str(place / "run")):
        found.append(initialize(config.model, variables))
    (there, sentence), (here, _) = found
    assert f"arrays start from {filled.url('run')}, 0 from random values;" in sentence
    jax.tree.map(np.testing.assert_array_equal, there, here)
    jax.tree.map(np.testing.assert_array_equal, there, ranet_jax.load("run").variables)


def test_a_data_set_is_packed_from_and_to_a_store(filled, capsys):
    url = filled.url("camvid.npz")
    assert main(["pack", "camvid", f"--data-dir={filled.url('tfds')}", f"--output={url}"]) == 0
    assert main(["pack", "camvid", "--data-dir=tfds", "--output=camvid.npz"]) == 0
    there, here = capsys.readouterr().out.splitlines()
    assert there == here.replace("camvid.npz", url)
    assert ArrayDataset.load(url) == ArrayDataset.load("camvid.npz")


def test_weights_are_carried_to_and_from_a_store(filled, place):
    weights, ported = filled.url("weights.safetensors"), filled.url("ported")
    reverse = ["port", "--reverse", "--format=safetensors"]
    assert main([*reverse, filled.url("run"), f"--output={weights}"]) == 0
    assert main([*reverse, "run", "--output=weights.safetensors"]) == 0
    written = (place / "weights.safetensors").read_bytes()
    assert filled.files("weights.") == {"safetensors": written}
    model = f"--model={filled.url('config.py')}"
    assert main(["port", weights, model, f"--output={ported}"]) == 0
    assert main([*reverse, ported, f"--output={filled.url('again.safetensors')}"]) == 0
    assert filled.files("again.") == {"safetensors": written}


def test_a_model_is_exported_to_a_store(filled, bucket):
    model = ranet_jax.load(filled.url("run"))
    model.save(bucket.url("model"))
    again = ranet_jax.load(bucket.url("model"))
    jax.tree.map(np.testing.assert_array_equal, again.variables, model.variables)
    assert again.dataset == model.dataset
    before = bucket.files()
    with pytest.raises(UserError, match="exists already"):
        model.save(bucket.url("model"))
    assert bucket.files() == before


def test_damage_is_found_and_named(filled, bucket, place, refusal):
    shutil.copytree(place / "run", place / "damaged")
    state = next(
        p for p in (place / "damaged/checkpoints/2/state").rglob("*") if p.stat().st_size > 99
    )
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    bucket.put_folder("damaged", place / "damaged")
    message = refusal("predict", "damaged", "source/val", "--output=none")
    url = bucket.url("damaged")
    found = refusal("predict", url, "source/val", "--output=none")
    assert "has a different checksum than when it was written" in found
    assert found == message.replace(str(place / "damaged"), url)
    assert "holds no checkpoint" in refusal("predict", bucket.url("a"), "source", "--output=none")


TINY_STEPS = (
    *("--config.data.name=camvid", "--config.data.crop_size=(24,32)", "--config.train.steps=4"),
    *("--config.train.batch_size=8", "--config.train.eval_every=2", "--config.eval.batch_size=2"),
    "--config.train.checkpoint_every=1",
)


@pytest.mark.long
def test_a_training_on_a_store_is_that_of_a_disk(filled, bucket, place, monkeypatch, capsys):
    """Stopped by a signal and resumed, it leaves the files of an undisturbed training on a disk."""
    options = ["--config=config.py", f"--config.data.data_dir={filled.url('tfds')}", *TINY_STEPS]
    assert main(["train", "--workdir=trained", *options]) == 0
    expected = local_files(place / "trained")

    save = checkpoints.save

    def save_and_stop(manager, step, state):
        save(manager, step, state)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    workdir = f"--workdir={bucket.url('trained')}"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_stop)
        assert main(["train", workdir, *options]) == 143
    found = bucket.files("trained/")
    assert {"checkpoints/2/manifest.json", "config.json", "curves.png"} <= found.keys()
    assert ".lock" not in found
    assert main(["train", workdir, *options]) == 0

    found = bucket.files("trained/")
    kept = {name for name in expected if not name.startswith((".", "tensorboard/", "checkpoints/"))}
    assert kept < found.keys()
    assert "curves.png" in kept
    assert found["metrics.jsonl"] == expected["metrics.jsonl"]
    assert len([name for name in found if name.startswith("tensorboard/")]) == 2
    one, other = (checkpoints.load_variables(w) for w in ("trained", bucket.url("trained")))
    assert one.step == other.step
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    capsys.readouterr()
    assert main(["evaluate", bucket.url("trained"), "--split=val"]) == 0
    assert f"step {one.step} of {bucket.url('trained')}" in capsys.readouterr().out


def test_a_directory_of_something_else_is_not_trained_in(filled, bucket, refusal):
    bucket.put("theirs/notes.txt", b"mine")
    options = ["--config=config.py", f"--config.data.data_dir={filled.url('tfds')}", *TINY_STEPS]
    message = refusal("train", f"--workdir={bucket.url('theirs')}", *options)
    assert message.startswith(f"{bucket.url('theirs')} holds files (notes.txt) but is not the work")
    assert bucket.files() == {"theirs/notes.txt": b"mine"}
    message = refusal("train", "--workdir=s3://no-such-bucket/run", *options)
    assert message.startswith("Bucket s3://no-such-bucket does not exist")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prepare", "shapes", "--data-dir=ftp://x/y"), "ftp://x/y cannot be read or written"),
        (("train", "--config=configs/shapes.py", "--workdir=gs:/b"), "gs:/b lacks a slash"),
        (("predict", "run", "s3://b/x", "ftp://a", "--output=x"), "ftp://a cannot be read"),
        (
            ("prepare", "shapes", "--data-dir=s3://no-such-bucket/a"),
            "Bucket s3://no-such-bucket do",
        ),
        (
            ("evaluate", "run", "--output=s3://no-such-bucket/a.json"),
            "Bucket s3://no-such-bucket d",
        ),
        (("train", "--config=s3://no-such-bucket/c.py", "--workdir=w"), "Config s3://no-such-b"),
    ],
)
def test_what_cannot_be_reached_is_refused_at_once(arguments, words, filled, refusal):
    assert words in refusal(*arguments)


def test_a_tilde_is_expanded_after_an_equals_sign(place, filled):
    shutil.copytree(place / "tfds", place / "home/tfds")
    shutil.copytree(place / "run", place / "home/run")
    options = ["--output=~/scores.json", "--config.data.data_dir=~/tfds"]
    assert main(["evaluate", "~/run", *options]) == 0
    assert (place / "home/scores.json").is_file()
    assert main(["pack", "camvid", "--data-dir=~/tfds", "--output=~/camvid.npz"]) == 0
    assert (place / "home/camvid.npz").is_file()
