"""Checkpoints scored into their directories: reports, journals of interrupted runs, pictures."""

import dataclasses
import errno
import itertools
import json
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from helpers.fakes import DATASET, batched, brightest_channel_model
from ranet_jax.checkpoints import workdir_of
from ranet_jax.errors import UserError
from ranet_jax.evaluation import evaluate, scoring
from ranet_jax.evaluation.evaluate import _report_name, evaluate_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def saved_model(tmp_path, monkeypatch):
    """A model on disk, its data set replaced by four images of pure colours."""
    model = brightest_channel_model()
    model.save(tmp_path / "model")
    monkeypatch.setattr(evaluate, "load", lambda path, configure=None: model)
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 3, (4, 1, 1)).astype(np.uint8)
    labels = np.tile(blocks, (1, 8, 10))
    images = 255 * np.eye(3, dtype=np.float32)[labels]
    splits = []

    def evaluation_batches(config, builder, split):
        splits.append(split)
        return batched(images, labels, 3)

    builder = types.SimpleNamespace(
        info=types.SimpleNamespace(full_name="colours/1.0.0", splits={})
    )
    monkeypatch.setattr(evaluate.examples, "open_dataset", lambda data: builder)
    monkeypatch.setattr(evaluate.examples, "dataset_metadata", lambda builder: DATASET)
    monkeypatch.setattr(evaluate.examples, "num_examples", lambda builder, split: 4)
    monkeypatch.setattr(evaluate.examples, "evaluation_batches", evaluation_batches)
    return tmp_path / "model", splits


def test_a_checkpoint_is_scored_into_its_directory(saved_model):
    path, splits = saved_model
    result = evaluate_checkpoint(path, progress=False).result
    assert (result.fine.miou, result.num_images, splits) == (1.0, 4, ["val"])
    fields = json.loads((path / "evaluation_val.json").read_text())
    assert fields["split"] == "val"
    assert fields["checkpoint"] == str(path)
    assert fields["fine"]["miou"] == 1.0
    # Each of the four images has one colour and 4 x 5 feature pixels, 12 left of the middle.
    assert fields["regions"]["counts"]["largest_pixels"] == 4 * 12
    assert fields["regions"]["region_purity"] == 1.0


def test_what_was_scored_and_where_it_is_written_is_told(saved_model):
    path, _ = saved_model
    told = []
    evaluation = evaluate_checkpoint(path, pictures=1, progress=False, tell=told.append)
    assert told == [f"Scoring the exported model {path} on split val of colours: 4 images."]
    names = ("evaluation_val.json", "evaluation_val_confusion.png", "evaluation_val.png")
    assert list(evaluation.files.values()) == [path / name for name in names]
    assert all(file.is_file() for file in evaluation.files.values())
    assert (
        json.loads((path / "evaluation_val.json").read_text())["fine"] == evaluation.report["fine"]
    )


def interrupted(batches, after):
    yield from itertools.islice(batches, after)
    raise KeyboardInterrupt


def test_an_evaluation_goes_on_where_it_was_cut_off(saved_model, monkeypatch):
    """The first of two batches is counted once, and forgotten when the weights have changed."""
    path, _ = saved_model
    whole = evaluate_checkpoint(path, progress=False).result
    (path / "evaluation_val.json").unlink()
    listing = sorted(p.name for p in path.iterdir())

    monkeypatch.setattr(scoring, "JOURNAL_SECONDS", 0.0)
    batches = evaluate.examples.evaluation_batches

    def stopping(*arguments):
        return interrupted(batches(*arguments), 1)

    model = evaluate.load(path)
    forward, passes = model.forward, []
    model.forward = lambda *arguments, **named: passes.append(1) or forward(*arguments, **named)

    def cut_off():
        monkeypatch.setattr(evaluate.examples, "evaluation_batches", stopping)
        with pytest.raises(KeyboardInterrupt):
            evaluate_checkpoint(path, progress=False)
        monkeypatch.setattr(evaluate.examples, "evaluation_batches", batches)
        passes.clear()

    cut_off()
    resumed = evaluate_checkpoint(path, progress=False).result
    assert len(passes) == 1
    np.testing.assert_array_equal(resumed.fine.confusion, whole.fine.confusion)
    assert resumed.regions == whole.regions
    assert resumed.regions.counts.images == 4
    assert (resumed.num_images, resumed.seconds > 0) == (4, True)
    (path / "evaluation_val.json").unlink()
    assert sorted(p.name for p in path.iterdir()) == listing

    cut_off()
    model.variables = jax.tree.map(lambda x: x + 1, model.variables)
    evaluate_checkpoint(path, progress=False)
    assert len(passes) == 2


def test_split_output_and_pictures_can_be_chosen(saved_model, tmp_path):
    path, splits = saved_model
    evaluate_checkpoint(path, split="test[:2]", progress=False)
    assert (path / "evaluation_test_to2.json").is_file()
    output = tmp_path / "scores.json"
    evaluate_checkpoint(path, split="train", output=output, pictures=2, progress=False)
    assert json.loads(output.read_text())["split"] == "train"
    assert splits == ["test[:2]", "train", "train"]
    with Image.open(tmp_path / "scores.png") as sheet:
        assert sheet.width > 5 * 320  # image, truth, coarse, fine, regions


def test_one_step_of_a_working_directory_reports_into_the_working_directory():
    assert workdir_of(Path("/runs/a/checkpoints/20")) == Path("/runs/a")
    assert workdir_of(Path("/runs/a")) == Path("/runs/a")


def test_a_data_set_of_other_classes_is_refused(saved_model, monkeypatch):
    path, _ = saved_model
    other = dataclasses.replace(
        DATASET, name="fruits", class_names=("apple", "pear"), palette=((1, 2, 3), (4, 5, 6))
    )
    monkeypatch.setattr(evaluate.examples, "dataset_metadata", lambda builder: other)
    with pytest.raises(UserError, match=r"3 classes of 'colours'.*'fruits' has 2"):
        evaluate_checkpoint(path, progress=False)


def test_a_split_without_labels_is_refused_and_nothing_written(saved_model, monkeypatch):
    path, _ = saved_model
    listing = sorted(p.name for p in path.iterdir())
    monkeypatch.setattr(scoring, "JOURNAL_SECONDS", 0.0)
    nothing = np.full((4, 8, 10), 255, np.uint8)
    monkeypatch.setattr(
        evaluate.examples,
        "evaluation_batches",
        lambda *_: batched(np.zeros((4, 8, 10, 3), np.float32), nothing, 3),
    )
    with pytest.raises(UserError, match="No pixel of split 'test' of colours has a label"):
        evaluate_checkpoint(path, split="test", progress=False)
    assert sorted(p.name for p in path.iterdir()) == listing


def test_a_missing_output_directory_is_refused_before_the_work(saved_model, tmp_path):
    path, splits = saved_model
    with pytest.raises(UserError, match="missing"):
        evaluate_checkpoint(path, output=tmp_path / "nowhere" / "scores.json")
    assert not splits


@pytest.mark.parametrize("name", ["scores.png", "scores", "folder.json"])
def test_a_report_that_is_no_json_file_is_refused_first(saved_model, tmp_path, name):
    path, splits = saved_model
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=rf"{name} a name that ends in \.json"):
        evaluate_checkpoint(path, output=tmp_path / name, pictures=1)
    assert not splits


def test_scores_that_cannot_be_written_are_told(saved_model, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(evaluate, "write_json", full)
    path, _ = saved_model
    message = r"(?s)scores\.json or its pictures cannot be written \(No space.*mean IoU.* 100\.00 "
    with pytest.raises(UserError, match=message):
        evaluate_checkpoint(path, output=tmp_path / "scores.json", progress=False)


@pytest.mark.parametrize(
    "split, name",
    [
        ("val", "val"),
        ("val[:50]", "val_to50"),
        ("val[50:]", "val_50to"),
        ("val[:50%]", "val_to50pct"),
        ("train+val", "train_and_val"),
    ],
)
def test_parts_of_a_split_have_reports_of_their_own(split, name):
    assert _report_name(split) == f"evaluation_{name}.json"
