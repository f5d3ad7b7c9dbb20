"""The bytes that every builder stores: training decodes them to what prediction sees."""

import io

import numpy as np
import pytest
from PIL import Image

from helpers.images import deep_png, exif, png, saved
from ranet_data.masks import labelled_example
from ranet_jax.errors import UserError
from ranet_jax.pipeline.examples import decode_stored
from ranet_jax.pipeline.images import decode_image

HEIGHT, WIDTH = 24, 40
RGB = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)).resize(
        (WIDTH, HEIGHT)
    )
)
PICTURE = Image.fromarray(RGB)
LABEL = np.zeros((HEIGHT, WIDTH), np.uint8)
QUARTER_TURN = exif((0x0112, 3, 1, b"\6\0\0\0"))


@pytest.fixture
def example(tmp_path):
    """A function that returns the bytes stored for those of an image file."""

    def store(encoded, label=LABEL, upright=False):
        (tmp_path / "image.png").write_bytes(encoded)
        name, stored = labelled_example(
            "a", tmp_path / "image.png", label, tmp_path / "label.png", upright
        )
        assert (name, stored["name"]) == ("a", "a")
        np.testing.assert_array_equal(stored["label"], label[..., None])
        return stored["image"]

    return store


def jpeg(**options):
    return saved(PICTURE, "JPEG", **options)


KEPT = {
    "png": png(RGB),
    "png with alpha": saved(PICTURE.convert("RGBA")),
    "png with a palette": saved(PICTURE.quantize(64)),
    "png of grey": saved(PICTURE.convert("L")),
    "png of two values": saved(PICTURE.convert("1")),
    "png of 16 bits": deep_png(RGB.astype(np.uint16) * 257),
    **{f"jpeg {sampling}": jpeg(subsampling=sampling) for sampling in ("4:4:4", "4:2:2", "4:2:0")},
    "progressive jpeg": jpeg(progressive=True),
    "jpeg of grey": saved(PICTURE.convert("L"), "JPEG"),
    "jpeg of four inks": saved(PICTURE.convert("CMYK"), "JPEG"),
    "jpeg with an odd block": jpeg(exif=b"Exif\0\0MMx*"),
}
CHANGED = {
    "bmp": saved(PICTURE, "BMP"),
    "tiff of four inks": saved(PICTURE.convert("CMYK"), "TIFF"),
    "webp": saved(PICTURE, "WEBP"),
    "gif": saved(PICTURE, "GIF"),
    "float": saved(Image.fromarray((RGB[..., 0] / 255).astype(np.float32)), "TIFF"),
}


@pytest.mark.parametrize("kind", KEPT)
def test_jpeg_and_png_are_kept_as_they_are(example, kind):
    stored = example(KEPT[kind])
    assert stored == KEPT[kind]
    np.testing.assert_array_equal(decode_stored(stored), decode_image(stored, kind))


@pytest.mark.parametrize("kind", CHANGED)
def test_anything_else_becomes_png(example, kind):
    stored = example(CHANGED[kind])
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_stored(stored), decode_image(CHANGED[kind], kind))


def test_a_photograph_is_turned_where_its_label_is_upright(example):
    encoded = saved(PICTURE, exif=QUARTER_TURN)
    assert example(encoded) == encoded  # official labels belong to the stored pixels
    stored = example(encoded, LABEL.T, upright=True)
    np.testing.assert_array_equal(decode_stored(stored), np.rot90(RGB, -1))


def test_a_label_of_the_unturned_size_is_told_of_exif(example):
    encoded = saved(PICTURE, exif=QUARTER_TURN)
    message = r"image\.png, turned as its EXIF says, is 24 x 40 but its label .* is 40 x 24; turn"
    with pytest.raises(UserError, match=message):
        example(encoded, upright=True)
    with pytest.raises(UserError, match=r"is 40 x 24 but its label .* is 24 x 40; they must"):
        example(png(RGB), LABEL.T, upright=True)


def zeros_at_the_end(encoded):
    return encoded[:-2] + b"\0\0"


DAMAGED = {
    **{f"png without {cut} bytes": png(RGB)[:-cut] for cut in (1, 4, 12, 13, 16)},
    **{f"jpeg {n} of zeros at the end": jpeg()[:-n] + bytes(n) for n in (1, 2, 40)},
    "jpeg without an end": jpeg()[:-2],
    "jpeg cut off": jpeg()[:-100],
    "png cut off": png(RGB)[:-100],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_training_cannot_read_is_never_stored(example, kind):
    """Pillow reads some of these files to their last row without complaint."""
    try:
        stored = example(DAMAGED[kind])
    except UserError as error:
        assert "image.png " in str(error)
    else:
        np.testing.assert_array_equal(decode_stored(stored), decode_image(DAMAGED[kind], kind))


@pytest.mark.parametrize("kind", ["png without 1 bytes", "jpeg 2 of zeros at the end"])
def test_a_file_that_pillow_alone_reads_is_refused_everywhere(example, kind):
    with Image.open(io.BytesIO(DAMAGED[kind])) as image:
        image.load()
    with pytest.raises(UserError, match=r"image\.png is cut off or damaged at its end"):
        example(DAMAGED[kind])
    with pytest.raises(UserError, match="photo is cut off or damaged at its end"):
        decode_image(DAMAGED[kind], "photo")
    with pytest.raises(UserError) as refusal:
        decode_stored(DAMAGED[kind])
    assert "{{" not in str(refusal.value)
    assert "[Op" not in str(refusal.value)
