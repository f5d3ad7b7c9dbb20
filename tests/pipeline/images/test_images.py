"""Pixels of every type and depth come out as they look, or the file is refused in one sentence."""

import io
import struct
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.fakes import primary_image
from helpers.images import deep_png, exif, fits, packed_twelve_bits, png, saved, tiff
from ranet_jax.errors import UserError
from ranet_jax.pipeline.images import decode_image, load_image, read_image

GREY = np.linspace(0, 255, 12).astype(np.uint8).reshape(2, 6)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], -1)
UNIT = (GREY / 255).astype(np.float32)
DEEP = GREY.astype(np.uint16) * 257
DEEP_RGB = RGB.astype(np.uint16) * 257
OPAQUE = np.full((2, 6, 1), 65535, np.uint16)


def picture(mode, array=RGB):
    return Image.fromarray(array).convert(mode)


def pgm(magic, largest, values, order=">"):
    kind = "u1" if largest < 256 else "u2"
    head = b"%s\n# a comment\n6 2 %d\n" % (magic, largest)
    if magic in (b"P2", b"P3"):
        return head + b" ".join(b"%d" % value for value in values.ravel())
    return head + values.astype(order + kind).tobytes()


def scaled(values, largest):
    return np.round(values / 255 * largest).astype(int)


def tiff_of(array, bits, kind, order="<", **options):
    """A TIFF of an array, grey or RGB."""
    samples = array.shape[2] if array.ndim == 3 else 1
    pixels = array.astype(order + kind).tobytes()
    return tiff(pixels, 6, 2, bits, order=order, samples=samples, **options)


GREY_FILES = {
    **{f"png {mode}": saved(picture(mode, GREY)) for mode in ("L", "LA", "P", "RGB", "RGBA")},
    "png 16": png(DEEP),
    "png 16 alpha": deep_png(np.concatenate([DEEP[..., None], OPAQUE], -1)),
    **{
        f"tiff {mode}": saved(picture(mode, GREY), "TIFF")
        for mode in ("L", "LA", "RGBA", "CMYK", "LAB")
    },
    "tiff 8 white is 0": tiff_of(255 - GREY, 8, "u1", photometric=0),
    "tiff 12": tiff(packed_twelve_bits(scaled(GREY, 4095)), 6, 2, 12),
    "tiff 16": tiff_of(DEEP, 16, "u2"),
    "tiff 16 big": tiff_of(DEEP, 16, "u2", ">"),
    "tiff 16 deflated": saved(Image.fromarray(DEEP), "TIFF", compression="tiff_adobe_deflate"),
    "tiff 16 white is 0": tiff_of(65535 - DEEP, 16, "u2", photometric=0),
    "tiff float": tiff_of(UNIT, 32, "f4", sample_format=3),
    "tiff float big": tiff_of(UNIT, 32, "f4", ">", sample_format=3),
    "tiff float white is 0": tiff_of(1 - UNIT, 32, "f4", sample_format=3, photometric=0),
    "jpeg2000": saved(picture("L", GREY), "JPEG2000"),
    "jpeg2000 16": saved(Image.fromarray(DEEP), "JPEG2000"),
    **{
        f"pgm {magic.decode()} {largest}": pgm(magic, largest, scaled(GREY, largest))
        for magic in (b"P5", b"P2")
        for largest in (255, 1023, 4095, 40000, 65535)
    },
    **{kind: saved(picture("L", GREY), kind) for kind in ("BMP", "GIF", "TGA", "PCX", "SGI")},
    "webp": saved(picture("RGB", GREY), "WEBP", lossless=True),
}
COLOR_FILES = {
    **{f"png {mode}": saved(picture(mode)) for mode in ("RGB", "RGBA")},
    "png palette": saved(picture("RGB").quantize(16)),
    "png 16": deep_png(DEEP_RGB),
    "png 16 alpha": deep_png(np.concatenate([DEEP_RGB, OPAQUE], -1)),
    **{
        f"tiff {mode}": saved(picture(mode), "TIFF")
        for mode in ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
    },
    "tiff 16": tiff_of(DEEP_RGB, 16, "u2", photometric=2),
    "tiff 16 big": tiff_of(DEEP_RGB, 16, "u2", ">", photometric=2),
    "jpeg2000": saved(picture("RGB"), "JPEG2000"),
    **{
        f"ppm {magic.decode()} {largest}": pgm(magic, largest, scaled(RGB, largest))
        for magic in (b"P6", b"P3")
        for largest in (255, 1023, 4095, 65535)
    },
    **{kind: saved(picture("RGB"), kind) for kind in ("BMP", "TGA", "PCX", "SGI")},
    "webp": saved(picture("RGB"), "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", GREY_FILES)
def test_grey_of_every_depth_is_read_in_its_range(kind):
    found = decode_image(GREY_FILES[kind], kind)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, np.stack([GREY] * 3, -1), atol=1, rtol=0)


@pytest.mark.parametrize("kind", COLOR_FILES)
def test_colours_of_every_depth_are_read_in_their_range(kind):
    tolerance = 3 if kind == "tiff YCbCr" else 1  # Pillow rounds it twice
    found = decode_image(COLOR_FILES[kind], kind)
    np.testing.assert_allclose(found, RGB, atol=tolerance, rtol=0)


def test_one_bit_is_black_and_white():
    found = decode_image(saved(picture("1", 255 * (GREY > 99).astype(np.uint8))), "image")
    np.testing.assert_array_equal(found[..., 1], np.where(GREY > 99, 255, 0))


def in_planes():
    buffer = io.BytesIO()
    planes = np.moveaxis(DEEP_RGB, -1, 0)
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate")
    return buffer.getvalue()


UNKNOWN = "integers of unknown range"
OUTSIDE = "floating-point values that are not all in 0 to 1"
# Files with 16 bits per channel, of which only some are used.
FEW_BITS = {
    "png": lambda bits: png(DEEP >> 16 - bits),
    "png with colours": lambda bits: deep_png(DEEP_RGB >> 16 - bits),
    "png with alpha": lambda bits: deep_png(np.concatenate([DEEP_RGB >> 16 - bits, OPAQUE], -1)),
    "tiff": lambda bits: tiff_of(DEEP >> 16 - bits, 16, "u2"),
    "tiff big": lambda bits: tiff_of(DEEP >> 16 - bits, 16, "u2", ">"),
    "tiff with colours": lambda bits: tiff_of(DEEP_RGB >> 16 - bits, 16, "u2", photometric=2),
    "jpeg2000": lambda bits: saved(Image.fromarray(DEEP >> 16 - bits), "JPEG2000"),
    "pgm": lambda bits: pgm(b"P5", 65535, DEEP >> 16 - bits),
    "plain pgm": lambda bits: pgm(b"P2", 65535, DEEP >> 16 - bits),
    "ppm": lambda bits: pgm(b"P6", 65535, DEEP_RGB >> 16 - bits),
}
REFUSED = {
    "lowest quarter": {
        f"{kind} {bits} of 16": write(bits)
        for bits in (8, 10, 12, 14)
        for kind, write in FEW_BITS.items()
    },
    UNKNOWN: {
        "tiff 32": tiff_of(DEEP, 32, "u4"),
        "tiff 32 signed": tiff_of(DEEP, 32, "i4", sample_format=2),
        "tiff 16 signed": tiff_of(DEEP >> 1, 16, "i2", sample_format=2),
        "fits 16": fits(DEEP),
    },
    OUTSIDE: {
        "tiff 0 to 255": tiff_of(GREY.astype(np.float32), 32, "f4", sample_format=3),
        "tiff negative": tiff_of(UNIT - 0.5, 32, "f4", sample_format=3),
        "tiff nan": tiff_of(np.where(UNIT > 0.5, np.nan, UNIT), 32, "f4", sample_format=3),
        "tiff all nan": tiff_of(np.full((2, 6), np.nan), 32, "f4", sample_format=3),
    },
    "a TIFF file with a type of pixels that cannot be read": {
        "tiff 64": tiff_of(GREY, 64, "f8", sample_format=3),
        "tiff with floating-point colours": tiff_of(
            RGB / 255, 32, "f4", sample_format=3, photometric=2
        ),
    },
    "whose channels lie in separate planes": {"tiff 16 in planes": in_planes()},
    "cannot be read as an image": {
        "empty": b"",
        "text": b"no image",
    },
}


@pytest.mark.parametrize(
    ("message", "kind"), [(message, kind) for message in REFUSED for kind in REFUSED[message]]
)
def test_what_cannot_be_told_is_refused(message, kind):
    with pytest.raises(UserError, match=rf"^some name .*{message}.*; .*\.$"):
        decode_image(REFUSED[message][kind], "some name")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_is_black_in_any_range(dtype):
    assert not decode_image(png(np.zeros((3, 4), dtype)), "black").any()


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    (tmp_path / "deep.png").write_bytes(png(values))
    assert read_image(tmp_path / "deep.png")[..., 1].tolist() == [[0, 0, 1], [128, 255, 255]]


def test_a_palette_with_transparency_is_read():
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    encoded = saved(image, transparency=bytes([0, 128]))
    assert decode_image(encoded, "palette").tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.png cannot be read \(No such file"):
        read_image(tmp_path / "missing.png")


# ------------------------------------------------------------------------------ orientation

ORIENTATION, SHORT, ASCII, RATIONAL = 0x0112, 3, 2, 5
KINDS = ("JPEG", "PNG", "WEBP", "TIFF")


def turned(value):
    """EXIF 2.32, 4.6.5.A: where the first row and the first column of the pixels are shown."""
    pixels = primary_image(4, 6)
    flipped = (pixels, pixels[:, ::-1], pixels[::-1, ::-1], pixels[::-1])
    if value <= 4:
        return flipped[value - 1]
    return np.swapaxes(flipped[(0, 3, 2, 1)[value - 5]], 0, 1)


def photograph(kind, block):
    options = {"lossless": True} if kind == "WEBP" else {}
    return saved(Image.fromarray(primary_image(4, 6)), kind, exif=block, **options)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_orientation_is_respected(kind, value):
    block = Image.Exif()
    block[ORIENTATION] = value
    encoded = photograph(kind, block)
    np.testing.assert_array_equal(decode_image(encoded, kind), turned(value))
    if kind != "TIFF":  # Pillow itself turns TIFFs
        stored = decode_image(encoded, kind, upright=False)
        np.testing.assert_array_equal(stored, primary_image(4, 6))


def entry(tag, kind, count, value):
    return (tag, kind, count, value.ljust(4, b"\0"))


QUARTER_TURN = entry(ORIENTATION, SHORT, 1, b"\6")
SENSELESS = {
    "no block": b"Exif\0\0garbage",
    "no byte order": b"Exif\0\0MMx*\0\0\0\x08",
    "text": exif(entry(ORIENTATION, ASCII, 2, b"6")),
    "rational out of the block": exif(entry(ORIENTATION, RATIONAL, 1, b"\xff\xff\xff\x7f")),
    "type that does not exist": exif(entry(ORIENTATION, 99, 1, b"\6")),
    **{f"value {value}": exif(entry(ORIENTATION, SHORT, 1, bytes([value]))) for value in (0, 9)},
}
ODD = {
    "width as text": entry(0x0100, ASCII, 4, b"abc"),
    "artist as a number": entry(0x013B, SHORT, 1, b"\7"),
    "resolution as a number": entry(0x011A, SHORT, 1, b"\7"),
    "date as a rational": entry(0x0132, RATIONAL, 1, b"\0\0\0\0"),
    "block beyond the end": entry(0x8769, 4, 1, b"\xff\xff\xff\x7f"),
    "block of the wrong type": entry(0x8769, ASCII, 4, b"abcd"),
    "places as text": entry(0x8825, ASCII, 4, b"abcd"),
    "private tag": entry(0xFFFE, 13, 1, b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("block", SENSELESS)
def test_an_orientation_without_sense_turns_nothing(kind, block):
    encoded = photograph(kind, SENSELESS[block])
    np.testing.assert_array_equal(decode_image(encoded, kind), primary_image(4, 6))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tag", ODD)
def test_the_orientation_stands_whatever_other_tags_are(kind, tag):
    found = decode_image(photograph(kind, exif(*sorted([QUARTER_TURN, ODD[tag]]))), kind)
    assert found.shape == (6, 4, 3)
    if kind != "JPEG":
        np.testing.assert_array_equal(found, turned(6))


# --------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("kind", [*KINDS, "GIF", "BMP", "PPM", "JPEG2000", "TGA", "ICO", "DDS"])
def test_damaged_files_are_read_or_refused(kind):
    """Files are cut off, overwritten with zeros, or have bytes exchanged at random."""
    options = {"exif": exif(QUARTER_TURN, ODD["block beyond the end"])} if kind in KINDS[:3] else {}
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))
    whole = saved(image, kind, **options)
    rng = np.random.default_rng(1)
    files = [whole[:cut] for cut in np.linspace(0, len(whole) - 1, 25).astype(int)]
    files += [whole[:-cut] + bytes(cut) for cut in (1, 2, 12, 100)]
    for _ in range(60):
        noisy = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, min(len(whole), rng.choice([40, 200, len(whole)])), 4)
        noisy[places] = rng.integers(0, 256, 4)
        files.append(noisy.tobytes())
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for encoded in files:
            try:
                assert decode_image(encoded, "name").ndim == 3
            except UserError as error:
                assert str(error).startswith("name ")
                refused += 1
    assert refused > 10


def bmp_of(width, height):
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


@pytest.mark.parametrize("read", [decode_image, load_image])
def test_sizes_beyond_the_limit_are_told(read):
    with pytest.raises(UserError, match=r"^huge has more than 178,956,970 pixels; cut it"):
        read(bmp_of(20000, 20000), "huge")


def test_sizes_below_the_limit_bring_no_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    np.testing.assert_array_equal(decode_image(png(RGB), "large"), RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(UserError, match="more than 10 pixels"):
        decode_image(png(RGB), "large")
