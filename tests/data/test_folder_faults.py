"""Folders of images and masks that cannot be prepared, and the messages about them."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers.folder_source import (
    config_of,
    edit,
    examples_of,
    make_source,
    prepare,
    with_value,
)
from helpers.images import raw_png
from ranet_jax.cli import main
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input


@pytest.mark.parametrize("missing", ["images/train", "masks/train", "images/val", "masks/val"])
def test_missing_split_is_named(source, missing):
    shutil.rmtree(source / missing)
    with pytest.raises(UserError, match=rf"^{source / missing} is missing; divide images/ and"):
        prepare(source)


def test_empty_split_is_named(source):
    for kind in ("images", "masks"):
        (source / kind / "test").mkdir()
    with pytest.raises(UserError, match=rf"{source / 'images/test'} holds no images"):
        prepare(source)


def test_missing_counterpart_is_named(source):
    mask = source / "masks" / "train" / "b.png"
    mask.rename(mask.with_name("z.png"))
    image = source / "images" / "train" / "b.jpg"
    with pytest.raises(UserError, match=rf"Image {image} has no mask {mask}"):
        prepare(source)
    mask.with_suffix(".jpg").touch()
    with pytest.raises(UserError, match=r"\(b.jpg is there, but masks are PNG files\); add it"):
        prepare(source)
    mask.with_suffix(".jpg").unlink()
    image.unlink()
    with pytest.raises(UserError, match=rf"Mask {mask.with_name('z.png')} has no image"):
        prepare(source)


def test_test_split_needs_masks_too(source):
    (source / "images" / "test").mkdir()
    shutil.copy(source / "images" / "val" / "c.png", source / "images" / "test")
    with pytest.raises(UserError, match=rf"has no mask {source / 'masks/test/c.png'}"):
        prepare(source)


def test_images_that_share_a_name_are_named(source):
    image = source / "images" / "train" / "a.png"
    Image.open(image).save(image.with_suffix(".jpg"))
    with pytest.raises(UserError, match=rf"{image.with_suffix('.jpg')} and {image} share a name"):
        prepare(source)


def test_hidden_and_other_files_are_passed_over(source):
    (source / "images" / "train" / "._a.png").write_bytes(b"resource fork")
    (source / "images" / "train" / "Thumbs.db").write_bytes(b"thumbnails")
    (source / "masks" / "train" / "desktop.ini").write_bytes(b"[.ShellClassInfo]")
    copies = source / "masks" / "train" / ".ipynb_checkpoints"
    copies.mkdir()
    shutil.copy(source / "masks" / "train" / "a.png", copies / "a-checkpoint.png")
    prepare(source)


def truncated(path):
    path.write_bytes(path.read_bytes()[:50])


def smaller(mask):
    return mask.resize((5, 4), Image.Resampling.NEAREST)


def write_four_bits(path):
    """A grey PNG of zeros with two pixels a byte, which Pillow does not write."""
    with Image.open(path) as mask:
        width, height = mask.size
    path.write_bytes(raw_png(width, height, 4, 0, [bytes((width + 1) // 2)] * height))


@pytest.mark.parametrize(
    ("place", "spoil", "message"),
    [
        ("masks/val/c.png", lambda p: edit(p, with_value(3)), "has value 3; values go from 0 to 2"),
        ("masks/val/c.png", lambda p: edit(p, with_value(254)), "has value 254; values go from 0"),
        ("masks/val/c.png", lambda p: edit(p, smaller), "is 5 x 4; they must"),
        ("masks/val/c.png", lambda p: edit(p, lambda m: m.convert("RGB")), "its mode is RGB"),
        ("masks/val/c.png", write_four_bits, "holds 4-bit values; save"),
        ("masks/val/c.png", truncated, "cannot be read as an image"),
        ("images/val/c.png", truncated, "cannot be read as an image"),
        ("images/train/b.jpg", truncated, "cannot be read as an image"),
    ],
)
def test_bad_file_stops_preparation_and_leaves_nothing(source, place, spoil, message):
    path = source / place
    good = path.read_bytes()
    spoil(path)
    with pytest.raises(UserError, match=rf"{path}.* ?{message}"):
        prepare(source)
    config = config_of(source.parent / "tfds")
    with pytest.raises(UserError, match="not prepared"):
        data_input.open_dataset(config.data)
    path.write_bytes(good)
    prepare(source)
    assert data_input.num_examples(data_input.open_dataset(config.data), "val") == 1


def test_image_of_unknown_range_is_named(source):
    path = source / "images" / "val" / "c.tif"
    Image.fromarray(np.full((6, 7), 99, np.float32)).save(path)
    path.with_suffix(".png").unlink()
    with pytest.raises(UserError, match=rf"{path} holds floating-point values"):
        prepare(source)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0ab\0\0\0\0\0\0",  # orientation "a"
    ],
)
def test_exif_without_sense_turns_nothing(source, exif):
    path = source / "images" / "train" / "b.jpg"
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "jpeg", exif=exif)
    path.write_bytes(buffer.getvalue())
    prepare(source)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_exif_that_is_damaged_turns_nothing(source, suffix):
    path = source / "images" / "train" / "a.png"
    image = Image.open(path).convert("RGB")
    path.unlink()
    image.save(path.with_suffix(f".{suffix}"), lossless=True, exif=b"Exif\0\0MMx*\0\0\0\x08")
    prepare(source)
    (found,) = (image for name, image, _ in examples_of(source.parent / "tfds") if name == "a")
    np.testing.assert_array_equal(found, image)


def test_masks_of_nothing_but_255_have_no_classes(tmp_path):
    source = make_source(tmp_path / "source", indexed=True, classes=None)
    for path in (source / "masks").rglob("*.png"):
        edit(path, lambda mask: mask.point(lambda value: 255))
    with pytest.raises(UserError, match="The masks hold only the value 255"):
        prepare(source)


def test_linked_folders_are_read(source):
    for kind in ("images", "masks"):
        elsewhere = source.parent / kind
        shutil.move(source / kind / "train", elsewhere)
        (source / kind / "train").mkdir()
        (source / kind / "train" / "linked").symlink_to(elsewhere)
    prepare(source)
    names = [name for name, *_ in examples_of(source.parent / "tfds")]
    assert sorted(names) == ["linked/a", "linked/b"]


def test_masks_of_255_for_the_foreground_are_told_apart(source):
    """Black and white masks would otherwise train on nothing but the background."""
    for path in (source / "masks").rglob("*.png"):
        edit(path, lambda mask: mask.point(lambda value: 255 * (value > 0)))
    folder = source / "masks" / "train"
    with pytest.raises(UserError, match=rf"{folder} have only the class 'ground'.* 255 is ignored"):
        prepare(source)


def test_folders_coexist_in_data_directories_of_their_own(source, tmp_path, capsys):
    other = make_source(tmp_path / "other", classes=["x", "y", "z"])
    for path, directory in ((source, "one"), (other, "two")):
        arguments = ["--source", str(path), "--data-dir", str(tmp_path / directory)]
        assert main(["prepare", "folder", *arguments]) == 0
    assert "folder: 3 classes (x, y, z)." in capsys.readouterr().out
    arguments = ["--source", str(other), "--data-dir", str(tmp_path / "one")]
    assert main(["prepare", "folder", *arguments]) == 0
    out = capsys.readouterr().out
    place = tmp_path / "one" / "folder" / "1.0.0"
    assert f"is already prepared, so {other} was not read; delete {place}" in out
    assert "folder: 3 classes (ground, road, sky)." in out
