"""A data set in one NumPy file: what comes back, batches that resume, and wrong files."""

import itertools
import pathlib

import numpy as np
import pytest

from helpers.images import deep_png, png
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.pipeline import arrays, augmentation, examples
from ranet_jax.pipeline.arrays import ArrayDataset, write_arrays
from ranet_jax.pipeline.metadata import DatasetMetadata

METADATA = DatasetMetadata("toy", ("left", "right"), ((200, 0, 0), (0, 0, 200)))


def example(number, size=(12, 16)):
    """An image whose red channel is its label times 100, and whose green is its number."""
    rng = np.random.default_rng(number)
    label = rng.integers(0, 2, size).astype(np.uint8)
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0], image[..., 1] = label * 100, number
    label[0, 0] = 255
    return image, label


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "toy.npz"
    sizes = [(12, 16), (12, 16), (9, 20)]
    splits = {
        "train": [tuple(map(png, example(number))) for number in range(5)],
        "val": [tuple(map(png, example(9, size))) for size in sizes],
    }
    write_arrays(path, METADATA, splits)
    return path


def config(**data):
    config = default_config()
    config.data.update(crop_size=(8, 10), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **data)
    config.train.batch_size = 2
    config.eval.batch_size = 2
    return config


def test_evaluation_gives_every_example_as_it_was(path):
    packed = ArrayDataset.load(path)
    assert packed.metadata == METADATA
    batches = list(packed.evaluation_batches(config(), "val"))
    assert [batch["label"].shape for batch in batches] == [(2, 12, 16), (1, 9, 20)]
    image, label = example(9)
    for place in range(2):
        np.testing.assert_array_equal(batches[0]["image"][place], image)
        np.testing.assert_array_equal(batches[0]["label"][place], label)
    assert batches[0]["mask"].all()


def test_image_and_label_are_cropped_and_flipped_alike(path):
    """At scale 1 the red channel of every pixel tells its label; padding is black and ignored."""
    packed = ArrayDataset.load(path)
    wide = config(scale_range=(1.0, 1.0))
    wide.data.crop_size = (14, 10)
    seen = set()
    for batch in itertools.islice(packed.train_batches(wide), 5):
        image, label = batch["image"], batch["label"]
        assert image.shape == (2, 14, 10, 3) and image.dtype == np.float32
        assert label.dtype == np.uint8
        counted = label != 255
        np.testing.assert_array_equal(image[..., 0][counted], 100.0 * label[counted])
        assert not counted[:, 12:].any() and not image[:, 12:].any()
        seen |= set(np.unique(image[:, 0, :, 1]).astype(int))
    assert seen == set(range(5))  # an epoch has every example


def test_scaled_examples_keep_to_their_classes(path):
    packed = ArrayDataset.load(path)
    varied = config(scale_range=(0.5, 2.0), brightness=0.1, contrast=0.4, saturation=0.4)
    for batch in itertools.islice(packed.train_batches(varied), 6):
        assert set(np.unique(batch["label"])) <= {0, 1, 255}
        assert batch["image"].min() >= 0 and batch["image"].max() <= 255


def test_colours_vary_as_in_the_tensorflow_pipeline():
    tf, _ = examples.import_tensorflow()
    varied = config(brightness=0.1, contrast=0.4, saturation=0.4).data
    rng = np.random.default_rng(0)
    for _ in range(5):
        pixels = rng.uniform(0, 255, (6, 7, 3)).astype(np.float32)
        draw = rng.uniform(-1, 1, 3)
        expected = augmentation._recolour(tf, varied, tf.constant(pixels), draw.astype(np.float32))
        found = arrays._recolour(varied, pixels, draw)
        np.testing.assert_allclose(found, expected.numpy(), atol=0.02)


def test_batches_from_a_step_on_are_those_of_the_whole_stream(path):
    packed = ArrayDataset.load(path)
    whole = list(itertools.islice(packed.train_batches(config()), 5))
    later = list(itertools.islice(packed.train_batches(config(), 3), 2))
    for found, expected in zip(later, whole[3:], strict=True):
        for name in ("image", "label"):
            np.testing.assert_array_equal(found[name], expected[name])
    other = config()
    other.seed = 1
    assert not np.array_equal(next(packed.train_batches(other))["image"], whole[0]["image"])


def test_jpeg_of_a_quality_is_close(tmp_path):
    image = np.full((16, 16, 3), 90, np.uint8)
    path = tmp_path / "jpeg.npz"
    label = np.zeros((16, 16), np.uint8)
    write_arrays(path, METADATA, {"val": [(png(image), png(label))]}, quality=80)
    (batch,) = ArrayDataset.load(path).evaluation_batches(config(), "val")
    assert np.abs(batch["image"] - 90.0).max() < 3


@pytest.mark.parametrize("quality", [None, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_come_back_in_their_range(tmp_path, quality, channels):
    """They come back as TensorFlow decodes them; Pillow would clip grey at 255."""
    values = np.linspace(0, 255, 16).astype(np.uint8).reshape(16, 1, 1)
    image = np.broadcast_to(values, (16, 16, 3))
    encoded = deep_png(image[..., :channels].astype(np.uint16) * 257)
    np.testing.assert_array_equal(examples.decode_stored(encoded), image)
    path, label = tmp_path / "deep.npz", png(np.zeros((16, 16), np.uint8))
    write_arrays(path, METADATA, {"val": [(encoded, label)]}, quality=quality)
    (batch,) = ArrayDataset.load(path).evaluation_batches(config(), "val")
    assert np.abs(batch["image"] - image).max() <= (0 if quality is None else 6)


def test_a_label_out_of_range_is_named(tmp_path):
    label = np.full((8, 10), 7, np.uint8)
    path = tmp_path / "wrong.npz"
    write_arrays(path, METADATA, {"train": [(png(example(0)[0]), png(label))]})
    with pytest.raises(UserError, match="7"):
        next(ArrayDataset.load(path).train_batches(config()))


def test_files_that_are_none(path, tmp_path):
    whole = path.read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole[: len(whole) // 2])
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, x=np.zeros(3))
    for wrong in (cut, foreign, tmp_path / "none.npz"):
        with pytest.raises(UserError, match=rf"{wrong.name} cannot be read as a packed data set"):
            ArrayDataset.load(wrong)
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        ArrayDataset.load(path).examples("test")


@pytest.mark.parametrize(
    "name, quality, part",
    [
        ("x.npy", None, "a name that does"),
        ("x.npz", 0, "choose 1 to 95"),
        ("no/x.npz", 90, "written"),
    ],
)
def test_what_is_not_written(tmp_path, name, quality, part):
    with pytest.raises(UserError, match=part):
        write_arrays(tmp_path / name, METADATA, {}, quality)
    assert list(pathlib.Path(tmp_path).iterdir()) == []
