"""Folder builder on miniature folders of images and index masks of several sizes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from helpers.folder_source import (
    COLORS,
    NAMES,
    SIZES,
    config_of,
    make_source,
    prepare,
    read_pair,
    stem_of,
)
from ranet_jax.cli import main
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline import preparation
from ranet_jax.pipeline.metadata import default_color

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    source = make_source(root / "source")
    metadata = preparation.prepare("folder", str(source), str(root / "tfds"))
    return source, root / "tfds", metadata


# ------------------------------------------------------------------------- what is written


def test_examples_are_the_files(prepared):
    source, data_dir, _ = prepared
    builder = tfds.builder_from_directory(data_dir / "folder" / "1.0.0")
    assert set(builder.info.splits) == {"train", "val", "test"}
    found = {
        f"{split}/{example['name'].decode()}": example
        for split in builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }
    assert found.keys() == {stem_of(place) for place in SIZES}
    for place in SIZES:
        image, label = read_pair(source, place)
        example = found[stem_of(place)]
        if not place.endswith(".jpg"):  # TFDS decodes JPEG less exactly than Pillow
            np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"][..., 0], label)


def test_jpeg_and_png_keep_their_bytes(prepared):
    source, data_dir, _ = prepared
    builder = tfds.builder_from_directory(data_dir / "folder" / "1.0.0")
    decoders = {"image": tfds.decode.SkipDecoding()}
    for example in tfds.as_numpy(builder.as_dataset(split="train", decoders=decoders)):
        (path,) = (source / "images" / "train").glob(f"{example['name'].decode()}.*")
        assert (example["image"] == path.read_bytes()) == (path.suffix != ".webp")


def test_evaluation_groups_images_by_size(prepared):
    source, data_dir, _ = prepared
    config = config_of(data_dir)
    batches = list(
        data_input.evaluation_batches(config, data_input.open_dataset(config.data), "val")
    )
    # The lone image of its size makes a batch of one.
    assert sorted(batch["image"].shape for batch in batches) == [(1, 18, 26, 3), (2, 24, 32, 3)]
    found = [
        (image.astype(np.uint8).tobytes(), label.tobytes())
        for batch in batches
        for image, label in zip(
            batch["image"][batch["mask"]], batch["label"][batch["mask"]], strict=True
        )
    ]
    expected = [read_pair(source, place) for place in SIZES if place.startswith("val/")]
    assert sorted(found) == sorted((i.tobytes(), label.tobytes()) for i, label in expected)


def truncate(records):
    records.write_bytes(records.read_bytes()[:-100])


@pytest.mark.parametrize("spoil", [truncate, Path.unlink])
def test_damaged_records_are_told(prepared, tmp_path, capsys, spoil):
    _, data_dir, _ = prepared
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    for split in ("train", "val"):
        (records,) = (tmp_path / "folder" / "1.0.0").glob(f"folder-{split}.tfrecord*")
        spoil(records)
    config = config_of(tmp_path)
    builder = data_input.open_dataset(config.data)
    damage = f"records of data set 'folder' are damaged .*; delete {builder.data_path} and prepare"
    with pytest.raises(UserError, match=damage):
        list(data_input.evaluation_batches(config, builder, "val"))
    with pytest.raises(UserError, match=damage):
        next(data_input.train_batches(config, builder))
    assert main(["prepare", "folder", "--data-dir", str(tmp_path)]) == 1
    assert "are damaged" in capsys.readouterr().err


def test_training_crops_images_of_every_size(prepared):
    """Each crop and its label lie at the same place of one image; narrower images are padded."""
    source, data_dir, _ = prepared
    config = config_of(data_dir)
    batches = data_input.train_batches(config, data_input.open_dataset(config.data))
    pairs = [read_pair(source, place) for place in SIZES if place.startswith("train/")]
    seen = set()
    for _ in range(4):  # two epochs
        batch = next(batches)
        assert batch["image"].shape == (2, 16, 24, 3) and batch["label"].shape == (2, 16, 24)
        for image, label in zip(batch["image"], batch["label"], strict=True):
            seen |= {
                number
                for number, (whole, mask) in enumerate(pairs)
                for top in range(mask.shape[0] - 15)
                for left in range(mask.shape[1] - 23)
                if (mask[top : top + 16, left : left + 24] == label).all()
                and (whole[top : top + 16, left : left + 24] == image).all()
            }
    assert seen == set(range(4))


def test_a_camera_turned_on_its_side(source):
    """The mask of such an image is upright, as annotation programs show it."""
    upright = np.asarray(Image.open(source / "images" / "val" / "c.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    sideways = Image.fromarray(np.rot90(upright).copy())
    sideways.save(source / "images" / "val" / "c.png", exif=exif)
    prepare(source)
    config = config_of(source.parent / "tfds")
    config.eval.batch_size = 1
    builder = data_input.open_dataset(config.data)
    (batch,) = data_input.evaluation_batches(config, builder, "val")
    np.testing.assert_array_equal(batch["image"][0], upright.astype(np.float32))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "F"])
def test_image_of_any_mode_becomes_rgb(source, mode):
    """Training sees the same pixels of it as prediction."""
    path = source / "images" / "val" / "c.png"
    grey = np.arange(6 * 7, dtype=np.uint16).reshape(6, 7) * 1500
    if mode == "I;16":
        Image.fromarray(grey).save(path)
        expected = np.repeat((grey >> 8)[..., None], 3, axis=-1)
    elif mode == "F":
        path.unlink()
        Image.fromarray((grey / 65535).astype(np.float32)).save(path.with_suffix(".tif"))
        expected = np.repeat(np.round(grey / 257)[..., None], 3, axis=-1)
    else:
        converted = Image.open(path).convert(mode)
        if mode == "CMYK":
            path.unlink()
            path = path.with_suffix(".tif")
        converted.save(path)
        expected = np.asarray(Image.open(path).convert("RGB"))
    prepare(source)
    config = config_of(source.parent / "tfds")
    config.eval.batch_size = 1
    builder = data_input.open_dataset(config.data)
    (batch,) = data_input.evaluation_batches(config, builder, "val")
    np.testing.assert_array_equal(batch["image"][0], expected.astype(np.float32))


# --------------------------------------------------------------------------------- classes


def test_names_alone_get_the_colours_of_pascal_voc(prepared):
    _, data_dir, returned = prepared
    builder = tfds.builder_from_directory(data_dir / "folder" / "1.0.0")
    metadata = data_input.dataset_metadata(builder)
    assert metadata == returned
    assert metadata.name == "folder"
    assert metadata.class_names == tuple(NAMES)
    assert metadata.palette == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert metadata.ignore_label == 255


def test_pascal_voc_colours():
    """The colours that PASCAL VOC lists: dog, person, tv monitor and void."""
    table = {12: (64, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {number: default_color(number) for number in table} == table
    assert len({default_color(number) for number in range(256)}) == 256


def test_indexed_masks_bring_their_own_classes(tmp_path):
    sizes = {"train/a.png": (8, 10), "val/c.png": (6, 7)}
    source = make_source(tmp_path / "source", indexed=True, classes=None, sizes=sizes)
    metadata = prepare(source)
    assert metadata.class_names == ("class_0", "class_1", "class_2")
    assert metadata.palette == tuple(map(tuple, COLORS))
    builder = tfds.builder_from_directory(tmp_path / "tfds" / "folder" / "1.0.0")
    assert data_input.dataset_metadata(builder) == metadata
    assert set(builder.info.splits) == {"train", "val"}
    (example,) = tfds.as_numpy(builder.as_dataset(split="val"))
    np.testing.assert_array_equal(example["label"][..., 0], read_pair(source, "val/c.png")[1])


def test_class_that_occurs_nowhere_gets_its_default_colour(tmp_path):
    sizes = {"train/a.png": (8, 10), "val/c.png": (6, 7)}
    source = make_source(tmp_path / "source", indexed=True, classes=None, sizes=sizes)
    for path in (source / "masks").rglob("*.png"):
        mask = Image.open(path)
        label = np.array(mask)
        label[label == 1] = 0
        moved = Image.fromarray(label)
        moved.putpalette(mask.getpalette())
        moved.save(path)
    assert prepare(source).palette == ((1, 2, 3), (128, 0, 0), (0, 0, 255))


def test_palettes_that_disagree_are_named(tmp_path):
    sizes = {"train/a.png": (8, 10), "val/c.png": (6, 7)}
    source = make_source(tmp_path / "source", indexed=True, classes=None, sizes=sizes)
    path = source / "masks" / "val" / "c.png"
    mask = Image.open(path)
    mask.putpalette([1, 2, 3, 77, 77, 77, 0, 0, 255] + [0] * 759)
    mask.save(path)
    first = source / "masks" / "train" / "a.png"
    message = rf"Value 1 has colour \(10, 20, 30\) in {first} but \(77, 77, 77\) in {path}"
    with pytest.raises(UserError, match=message):
        prepare(source)


def test_mask_without_palette_needs_a_file_of_classes(source):
    (source / "classes.json").unlink()
    message = rf"{source / 'masks/train/a.png'} has no palette, so {source / 'classes.json'} is nee"
    with pytest.raises(UserError, match=message):
        prepare(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a", "b"', "cannot be read as JSON"),
        ('{"a": 1}', "does not hold a list of 2 to 255 classes"),
        ('["a"]', "does not hold a list of 2 to 255 classes"),
        (json.dumps([str(i) for i in range(256)]), "does not hold a list of 2 to 255 classes"),
        ('["a", 3]', "Entry 1 of .* is 3, which does not fit; write"),
        ('[{"name": "a", "color": [1, 2, 3]}, "b"]', 'Entry 1 of .* is "b", which does not fit'),
        ('["b", {"name": "a", "color": [1, 2, 3]}]', "Entry 1 of"),
        ('["b", {"name": "a", "colour": [1, 2, 3]}]', "Entry 1 of"),
        ('["b", {"name": "a", "ignore": 1}]', "Entry 1 of"),
        ('["b", {"name": "a", "ignore": true}]', "ignores all but 1 classes; two are needed"),
        ('[{"name": "a", "color": [1, 2, 3]}, {"name": "b"}]', "Entry 1 of"),
        ('[{"name": "a", "color": [1, 2, 256]}, "b"]', "Entry 0 of"),
        ('[{"name": "a", "color": [1, 2]}, "b"]', "Entry 0 of"),
        ('[{"name": "", "color": [1, 2, 3]}, "b"]', "Entry 0 of"),
        ('["a", "b", "a"]', "has name 'a' twice"),
        (json.dumps([{"name": n, "color": [1, 2, 3]} for n in "ab"]), "has colour .* twice"),
    ],
)
def test_bad_file_of_classes_is_named(source, text, message):
    (source / "classes.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        prepare(source)
    assert str(source / "classes.json") in str(caught.value)
