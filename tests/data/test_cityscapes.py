"""Cityscapes builder on miniature archives in the official layout."""

import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from cityscapes_source import EXTRA, NAMES, image, label_ids, make_source, png
from cityscapesscripts.helpers import labels as official
from ranet_data.cityscapes import cityscapes_dataset_builder as module
from ranet_data.cityscapes.labels import CLASSES, NUM_IDS, to_ids, to_train_ids

from ranet_jax import input as data_input
from ranet_jax.config import default_config
from ranet_jax.errors import UserError

TRAIN_IDS = {x.id: x.trainId for x in official.labels if x.id >= 0}


def prepare(source, root):
    return data_input.prepare("cityscapes", str(source), str(root))


def examples(root, split):
    builder = tfds.builder_from_directory(root / "cityscapes" / "1.0.0")
    found = tfds.as_numpy(builder.as_dataset(split=split))
    return {example["name"].decode(): example for example in found}


@pytest.fixture(scope="module", params=[True, False], ids=["zipped", "unpacked"])
def prepared(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("cityscapes")
    source = make_source(root / "source", request.param, extra=True)
    return root / "tfds", prepare(source, root / "tfds")


def test_the_table_of_labels_is_the_official_one():
    assert len(TRAIN_IDS) == NUM_IDS
    expected = sorted(
        (x.trainId, x.name, x.id, x.color) for x in official.labels if 0 <= x.trainId < 255
    )
    found = [(n, name, *pair) for n, (name, pair) in enumerate(CLASSES.items())]
    assert found == expected
    ids = np.arange(NUM_IDS, dtype=np.uint8)
    assert to_train_ids(ids).tolist() == [TRAIN_IDS[i] for i in range(NUM_IDS)]
    evaluated = np.arange(19, dtype=np.uint8)
    np.testing.assert_array_equal(to_train_ids(to_ids(evaluated)), evaluated)


@pytest.mark.parametrize("split", [*NAMES, *EXTRA])
def test_splits_hold_their_images_and_train_ids(prepared, split):
    found = examples(prepared[0], split)
    assert sorted(found) == sorted((NAMES | EXTRA)[split])
    for name, example in found.items():
        np.testing.assert_array_equal(example["image"], image(name))
        expected = np.vectorize(TRAIN_IDS.get)(label_ids(name))
        assert (expected == 255).any()
        np.testing.assert_array_equal(example["label"][..., 0], expected)
        if split == "test":
            assert (expected == 255).all()


def test_metadata(prepared):
    metadata = prepared[1]
    assert (metadata.name, metadata.num_classes) == ("cityscapes", 19)
    assert metadata.class_names[18] == "bicycle"
    assert metadata.palette[0] == (128, 64, 128)


def test_without_the_coarse_archives_there_is_no_extra_split(tmp_path, capsys):
    prepare(make_source(tmp_path / "source", True), tmp_path / "tfds")
    builder = tfds.builder_from_directory(tmp_path / "tfds" / "cityscapes" / "1.0.0")
    assert set(builder.info.splits) == set(NAMES)
    shown = capsys.readouterr().out
    assert "Note: the official split train has 2975 examples; some are missing." in shown
    assert "train_extra" not in shown


def hashes(root):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*.tfrecord*")
    }


def test_prepared_twice_gives_the_same_records(tmp_path):
    source = make_source(tmp_path / "source", True)
    for name in ("a", "b"):
        prepare(source, tmp_path / name)
    assert len(hashes(tmp_path / "a")) == 3
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_a_preparation_that_was_cut_off_leaves_nothing_that_loads(tmp_path, monkeypatch):
    source, read = make_source(tmp_path / "source", True), module.Download.read
    config = default_config().data
    config.name, config.data_dir = "cityscapes", str(tmp_path / "tfds")

    def cut_off(self, name):
        if "frankfurt" in name:
            raise KeyboardInterrupt
        return read(self, name)

    monkeypatch.setattr(module.Download, "read", cut_off)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "tfds")
    with pytest.raises(UserError, match="ranet prepare cityscapes"):
        data_input.open_dataset(config)
    monkeypatch.setattr(module.Download, "read", read)
    prepare(source, tmp_path / "tfds")
    assert data_input.open_dataset(config).info.splits["val"].num_examples == 1


# ----------------------------------------------------------------------------- what is refused


def refusal(source, tmp_path):
    with pytest.raises(UserError) as caught:
        prepare(source, tmp_path / "tfds")
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", ["leftImg8bit", "gtFine"])
def test_a_missing_download_is_named_with_its_origin(tmp_path, part, zipped):
    source = make_source(tmp_path / "source", zipped)
    lacking = source / (f"{part}_trainvaltest.zip" if zipped else part)
    lacking.rename(tmp_path / "elsewhere")
    complaint = refusal(source, tmp_path)
    assert complaint.startswith(f"{source / part}_trainvaltest.zip is missing, and so is the fold")
    assert "download it from https://www.cityscapes-dataset.com" in complaint


def test_coarse_labels_need_their_images(tmp_path):
    source = make_source(tmp_path / "source", True, extra=True)
    (source / "leftImg8bit_trainextra.zip").unlink()
    assert "leftImg8bit_trainextra.zip is missing" in refusal(source, tmp_path)


def test_a_cut_off_archive_is_named(tmp_path):
    source = make_source(tmp_path / "source", True)
    archive = source / "gtFine_trainvaltest.zip"
    archive.write_bytes(archive.read_bytes()[:-100])
    assert refusal(source, tmp_path).startswith(f"{archive} cannot be read (")


def test_a_damaged_member_is_named(tmp_path):
    source = make_source(tmp_path / "source", True)
    archive = source / "leftImg8bit_trainvaltest.zip"
    content = bytearray(archive.read_bytes())
    place = content.index(png(image(NAMES["train"][0]))) + 60
    content[place] ^= 255
    archive.write_bytes(content)
    complaint = refusal(source, tmp_path)
    assert f"aachen_000000_000019_leftImg8bit.png in {archive} cannot be read (Bad CRC" in complaint


@pytest.mark.parametrize("kind", ["image", "label"])
def test_images_and_labels_come_in_pairs(tmp_path, kind):
    source = make_source(tmp_path / "source", False)
    pattern = "*_leftImg8bit.png" if kind == "label" else "*_labelIds.png"
    next(source.rglob(f"aachen{pattern}")).unlink()
    complaint = refusal(source, tmp_path)
    assert complaint.startswith(f"The {kind} of aachen_000000_000019 has no counterpart in")


def test_a_split_without_images_is_named(tmp_path):
    source = make_source(tmp_path / "source", False)
    for path in source.rglob("frankfurt*.png"):
        path.unlink()
    assert "holds no image of split val" in refusal(source, tmp_path)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.full((16, 24), 34, np.uint8), "has value 34; ids go from 0 to 33."),
        (np.zeros((16, 25), np.uint8), "must be of one size"),
        (np.zeros((16, 24, 3), np.uint8), "is not an 8-bit image of one channel"),
    ],
)
def test_wrong_labels_are_named(tmp_path, array, sentence):
    source = make_source(tmp_path / "source", False)
    label = next(source.rglob("aachen*_labelIds.png"))
    label.write_bytes(png(array))
    complaint = refusal(source, tmp_path)
    assert sentence in complaint
    assert label.name in complaint
