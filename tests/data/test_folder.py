"""Folder builder on miniature folders of images and index masks of several sizes."""

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from ranet_jax.cli import main
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline.metadata import default_color

NAMES = ["ground", "road", "sky"]
COLORS = [[1, 2, 3], [10, 20, 30], [0, 0, 255]]
# Height and width of each image, by its place under images/.
SIZES = {
    "train/a.jpg": (24, 32),
    "train/street/b.PNG": (20, 28),
    "train/street/a.png": (24, 32),
    "train/c.webp": (17, 40),
    "val/a.png": (24, 32),
    "val/d.bmp": (18, 26),
    "val/e.jpg": (24, 32),
    "test/f.png": (9, 11),
}


def stem_of(place):
    return place.rsplit(".", 1)[0]


def make_source(root, indexed=False, classes=NAMES, sizes=SIZES):
    """Images of smooth colours; masks of values 0, 1, 2 and 255 in every quarter."""
    rng = np.random.default_rng(0)
    for place, (height, width) in sizes.items():
        path = root / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        coarse.resize((width, height)).save(path)
        label = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
        mask = Image.fromarray(label)
        if indexed:
            palette = np.full((256, 3), 9, np.uint8)
            palette[:3] = COLORS
            mask.putpalette(palette.tobytes())
        path = root / "masks" / f"{stem_of(place)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


@pytest.fixture
def source(tmp_path):
    """The least that can be prepared, to be spoiled by a test."""
    sizes = {"train/a.png": (8, 10), "train/b.jpg": (8, 10), "val/c.png": (6, 7)}
    return make_source(tmp_path / "source", sizes=sizes)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    source = make_source(root / "source")
    metadata = data_input.prepare("folder", str(source), str(root / "tfds"))
    return source, root / "tfds", metadata


def examples_of(data_dir):
    """Name, image and label of each example of train."""
    builder = tfds.builder_from_directory(data_dir / "folder" / "1.0.0")
    for example in tfds.as_numpy(builder.as_dataset(split="train")):
        yield example["name"].decode(), example["image"], example["label"][..., 0]


def prepare(source):
    return data_input.prepare("folder", str(source), str(source.parent / "tfds"))


def config_of(data_dir):
    """Reads images as they are, neither augmented nor normalised."""
    config = default_config()
    config.data.update(name="folder", data_dir=str(data_dir), crop_size=(16, 24), flip=False)
    config.data.update(mean=(0.0,) * 3, std=(1.0,) * 3, scale_range=(1.0, 1.0))
    config.train.batch_size = 2
    config.eval.batch_size = 2
    return config


def read_pair(source, place):
    image = np.asarray(Image.open(source / "images" / place).convert("RGB"))
    return image, np.asarray(Image.open(source / "masks" / f"{stem_of(place)}.png"))


def edit(path, function):
    image = Image.open(path)
    image.load()
    function(image).save(path)


def with_value(value):
    def spoil(mask):
        label = np.array(mask)
        label[2, 3] = value
        return Image.fromarray(label)

    return spoil


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
        if not place.endswith(".jpg"):  # which TFDS decodes less exactly than Pillow
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
    """Each crop and its label lie at one place of one image; what is narrower is padded."""
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


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_image_of_any_mode_becomes_rgb(source, mode):
    path = source / "images" / "val" / "c.png"
    if mode == "I;16":
        grey = np.arange(6 * 7, dtype=np.uint16).reshape(6, 7) * 1500
        Image.fromarray(grey).save(path)
        expected = np.repeat((grey >> 8)[..., None], 3, axis=-1)
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


def test_names_and_colours_of_the_file_outrank_the_palette(tmp_path):
    colors = [[7, 8, 9], [0, 0, 0], [255, 255, 255]]
    entries = [{"name": n, "color": c} for n, c in zip(NAMES, colors, strict=True)]
    sizes = {"train/a.png": (8, 10), "val/c.png": (6, 7)}
    metadata = prepare(make_source(tmp_path / "source", True, entries, sizes))
    assert metadata.class_names == tuple(NAMES)
    assert metadata.palette == tuple(map(tuple, colors))


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
        ('["a", 3]', 'Entry 0 of .* is "a", which does not fit the others; write'),
        ('[{"name": "a", "color": [1, 2, 3]}, "b"]', 'Entry 1 of .* is "b", which does not fit'),
        ('[{"name": "a", "color": [1, 2, 3]}, {"name": "b"}]', "Entry 1 of"),
        ('[{"name": "a", "color": [1, 2, 256]}, "b"]', "Entry 0 of"),
        ('[{"name": "a", "color": [1, 2]}, "b"]', "Entry 0 of"),
        ('[{"name": "", "color": [1, 2, 3]}, "b"]', "Entry 0 of"),
        ('["a", "b", "a"]', "names class 'a' twice"),
    ],
)
def test_bad_file_of_classes_is_named(source, text, message):
    (source / "classes.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        prepare(source)
    assert str(source / "classes.json") in str(caught.value)


# ---------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("missing", ["images/train", "masks/train", "images/val", "masks/val"])
def test_missing_split_is_named(source, missing):
    shutil.rmtree(source / missing)
    with pytest.raises(UserError, match=rf"^{source / missing} is missing\. .*classes\.json"):
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
    prepare(source)


def truncated(path):
    path.write_bytes(path.read_bytes()[:50])


def write_four_bits(path):
    """A grey PNG of zeros with two pixels a byte, which Pillow does not write."""
    with Image.open(path) as mask:
        width, height = mask.size
    rows = (b"\0" + bytes((width + 1) // 2)) * height  # each begins with its filter
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)),)
    parts += ((b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize(
    ("place", "spoil", "message"),
    [
        ("masks/val/c.png", lambda p: edit(p, with_value(3)), "has value 3; values go from 0 to 2"),
        ("masks/val/c.png", lambda p: edit(p, with_value(254)), "has value 254; values go from 0"),
        ("masks/val/c.png", lambda p: edit(p, lambda m: m.resize((5, 4))), "is 5 x 4; they must"),
        ("masks/val/c.png", lambda p: edit(p, lambda m: m.convert("RGB")), "its mode is RGB"),
        ("masks/val/c.png", write_four_bits, "its mode is grey of 4 bits"),
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


def test_floating_point_image_is_named(source):
    path = source / "images" / "val" / "c.tif"
    Image.fromarray(np.zeros((6, 7), np.float32)).save(path)
    path.with_suffix(".png").unlink()
    with pytest.raises(UserError, match=rf"{path} has mode F"):
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
    with pytest.raises(UserError, match="The masks hold no value but 255"):
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
    with pytest.raises(UserError, match=rf"{folder} have no class but 'ground'.* 255 is ignored"):
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
    assert f"is prepared already, and {other} was not read; delete {place}" in out
    assert "folder: 3 classes (ground, road, sky)." in out
