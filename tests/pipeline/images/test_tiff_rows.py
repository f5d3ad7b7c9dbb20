"""Images read in blocks of rows have the same pixels as images read as a whole."""

import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.pipeline import images
from ranet_jax.pipeline.images import ImageRows, count_pixels, open_rows, read_image, tiff_rows

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
GREY = PIXELS[..., 0]
RGBA = np.dstack([PIXELS, GREY])


def in_blocks(path):
    """The heights of the blocks, and their pixels."""
    with open_rows(path) as rows:
        assert isinstance(rows, ImageRows)
        blocks = list(rows.blocks)
        found = np.concatenate(blocks)
        assert found.shape == (rows.height, rows.width, 3)
    assert count_pixels(path) == rows.height * rows.width
    return [len(block) for block in blocks], found


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_PIXELS", 300)


SAVED = {
    "rgb.png": Image.fromarray(PIXELS),
    "rgb.jpg": Image.fromarray(PIXELS),
    "rgb.jp2": Image.fromarray(PIXELS),
    "rgb.bmp": Image.fromarray(PIXELS),
    "rgba.png": Image.fromarray(RGBA),
    "palette.png": Image.fromarray(PIXELS).quantize(9),
    "cmyk.tif": Image.fromarray(PIXELS).convert("CMYK"),
    "one_bit.png": Image.fromarray(GREY).convert("1"),
    "sixteen.png": Image.fromarray(GREY.astype(np.uint16) * 257),
    "float.tif": Image.fromarray((GREY / 255).astype(np.float32)),
}


@pytest.mark.parametrize("name", SAVED)
def test_every_kind_of_file_comes_in_blocks(name, tmp_path):
    SAVED[name].save(tmp_path / name)
    heights, found = in_blocks(tmp_path / name)
    assert heights == [5] * 7 + [2]
    np.testing.assert_array_equal(found, read_image(tmp_path / name))


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_blocks_are_turned_as_the_exif_says(kind, orientation, tmp_path):
    block = Image.Exif()
    block[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    Image.fromarray(PIXELS).save(path, exif=block)
    heights, found = in_blocks(path)
    assert found.shape[:2] == ((37, 53) if orientation < 5 else (53, 37))
    np.testing.assert_array_equal(found, read_image(path))
    assert len(heights) > 1 or (kind == "tif" and orientation == 1)


STORED = {
    "rgb": (PIXELS, {"photometric": "rgb"}),
    "grey": (GREY, {"photometric": "minisblack"}),
    "white is 0": (GREY, {"photometric": "miniswhite"}),
    "alpha": (RGBA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
}


@pytest.mark.parametrize("pixels", STORED)
@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "packbits"])
@pytest.mark.parametrize(
    ("layout", "heights"),
    [({"tile": (16, 32)}, [16, 16, 5]), ({"rowsperstrip": 10}, [10, 10, 10, 7])],
    ids=["tiles", "strips"],
)
def test_tiles_and_strips_of_a_tiff_are_decoded_as_they_are_asked_for(
    pixels, compression, layout, heights, tmp_path, monkeypatch
):
    array, options = STORED[pixels]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, array, compression=compression, **layout, **options)
    expected = read_image(path)
    monkeypatch.setattr(Image.Image, "crop", None)  # used only if Pillow decodes the whole
    found_heights, found = in_blocks(path)
    assert found_heights == heights
    np.testing.assert_array_equal(found, expected)


LEFT_TO_PILLOW = {
    "sixteen bits": (GREY.astype(np.uint16) * 257, {}),
    "alpha that is multiplied in": (
        np.minimum(RGBA, GREY[..., None]),
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
    ),
    "channels apart": (
        np.ascontiguousarray(PIXELS.transpose(2, 0, 1)),
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
}


@pytest.mark.parametrize("kind", LEFT_TO_PILLOW)
def test_other_tiffs_are_decoded_as_a_whole(kind, tmp_path):
    array, options = LEFT_TO_PILLOW[kind]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, array, tile=(16, 16), **options)
    with tiff_rows.opened(path) as blocks:
        assert blocks is None
    np.testing.assert_array_equal(in_blocks(path)[1], read_image(path))


@pytest.mark.parametrize("lack", ["package", "small strips"])
def test_what_tifffile_does_not_help_with_is_decoded_as_a_whole(lack, tmp_path, monkeypatch):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", rowsperstrip=10)
    if lack == "package":
        monkeypatch.setitem(sys.modules, "tifffile", None)
    else:
        monkeypatch.setattr(tiff_rows, "_BLOCK_PIXELS", 10 * 53 - 1)
    heights, found = in_blocks(path)
    assert heights == [5] * 7 + [2]
    np.testing.assert_array_equal(found, PIXELS)


def test_files_beyond_the_limit_of_other_readers_are_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    np.testing.assert_array_equal(in_blocks(tmp_path / "image.png")[1], PIXELS)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(UserError, match="more than 200 pixels"):
        read_image(tmp_path / "image.png")


def test_what_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "text.tif").write_text("no image")
    for name, why in (("text.tif", "as an image"), ("missing.png", r"\(No such file")):
        for read in (count_pixels, lambda path: in_blocks(path)):
            with pytest.raises(UserError, match=rf"{name} cannot be read {why}"):
                read(tmp_path / name)
