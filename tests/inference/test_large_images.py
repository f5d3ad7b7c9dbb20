"""Image files too large to be segmented as a whole, and folders of many sizes."""

import dataclasses
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.fakes import DATASET, brightest_channel_model, primary_image
from helpers.predictions import failures
from ranet_jax.errors import UserError
from ranet_jax.inference import files, large_images
from ranet_jax.inference.files import predict_files
from ranet_jax.inference.label_png import save_label_png, save_label_rows
from ranet_jax.inference.pictures import overlay_with_legend

pytestmark = pytest.mark.slow

SHAPE = (37, 53)


@pytest.fixture
def model():
    model = brightest_channel_model()
    model.settings = dataclasses.replace(model.settings, crop_size=(12, 16))
    return model


@pytest.fixture
def small_limits(monkeypatch):
    """Images of over a thousand pixels count as large; overlays are at most 20 high and wide."""
    monkeypatch.setattr(files, "LARGE_PIXELS", 1000)
    monkeypatch.setattr(large_images, "OVERLAY_SIDE", 20)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_labels_of_a_large_file_are_those_of_sliding_windows(model, small_limits, tmp_path, capsys):
    image = primary_image(*SHAPE)
    Image.fromarray(image).save(tmp_path / "large.png")
    Image.fromarray(image[:20, :20]).save(tmp_path / "small.png")
    assert failures(model, [tmp_path], tmp_path / "out") == []
    (told,) = (line for line in capsys.readouterr().err.splitlines() if "ranet:" in line)
    assert "large.png has 1,961 pixels, which is more than 1,000: it is segmented" in told
    assert "windows of 16 x 12 pixels, its overlay is drawn at a reduced size, and its bou" in told
    names = {"large_labels.png", "large_overlay.png"}
    names |= {f"small_{kind}.png" for kind in ("labels", "overlay", "regions")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    model.settings = dataclasses.replace(model.settings, mode="slide")
    labels = model.predict(image).labels
    np.testing.assert_array_equal(read(tmp_path / "out" / "large_labels.png"), labels)
    # 53 pixels are brought to at most 20 by a factor of 3.
    smaller = np.asarray(Image.fromarray(image).reduce(3))
    expected = overlay_with_legend(smaller, labels[::3, ::3], DATASET, 0.4)
    np.testing.assert_array_equal(read(tmp_path / "out" / "large_overlay.png"), expected)


def test_more_pixels_than_allowed_are_refused_by_the_header(model, tmp_path, capsys):
    """A file of a hundred bytes that claims to have 30,000 x 30,000 pixels is not decoded."""
    Image.fromarray(primary_image(5, 6)).save(tmp_path / "a.png")
    huge = bytearray((tmp_path / "a.png").read_bytes())
    huge[16:24] = (30000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (tmp_path / "b.png").write_bytes(huge)
    (told,) = failures(model, [tmp_path], tmp_path / "out")
    assert told.endswith(
        "b.png has 900,000,000 pixels, which is more than max_pixels, 536,870,912; raise max_pixels"
        " if you trust the file, or cut it into parts."
    )
    assert (tmp_path / "out" / "a_labels.png").is_file()
    assert not (tmp_path / "out" / "b_labels.png").exists()
    assert len(failures(model, [tmp_path / "a.png"], tmp_path / "out", max_pixels=29)) == 1
    assert failures(model, [tmp_path / "a.png"], tmp_path / "out", max_pixels=30) == []
    with pytest.raises(UserError, match="max_pixels is 0; choose 1 or more"):
        predict_files(model, [tmp_path / "a.png"], tmp_path / "out", max_pixels=0)


def test_a_large_file_that_is_cut_off_leaves_no_labels(model, small_limits, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.tif", compression="tiff_deflate")
    damaged = bytearray((tmp_path / "whole.tif").read_bytes())
    damaged[1000:3000] = bytes(2000)
    (tmp_path / "damaged.tif").write_bytes(damaged)
    (told,) = failures(model, [tmp_path], tmp_path / "out")
    assert "damaged.tif cannot be read as an image" in told
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"whole_labels.png", "whole_overlay.png"}


def test_a_large_file_and_scales_do_not_go_together(model, small_limits, tmp_path):
    model.settings = dataclasses.replace(model.settings, scales=(1.0, 2.0))
    Image.fromarray(primary_image(*SHAPE)).save(tmp_path / "large.png")
    (told,) = failures(model, [tmp_path], tmp_path / "out")
    assert "large.png is segmented row by row, only at its own scale; set config.eval" in told


def test_windows_without_regions_compile_no_program_for_each_size(tmp_path):
    traces, widths = [], (17, 20, 26)
    model = brightest_channel_model(traces.append)
    for width in widths:
        Image.fromarray(primary_image(13, width)).save(tmp_path / f"{width}.png")
    windows = dataclasses.replace(model.settings, mode="slide", crop_size=(12, 16))
    model.settings = dataclasses.replace(windows, regions=False)
    assert failures(model, [tmp_path], tmp_path / "out") == []
    assert traces == [(4, 12, 16, 3)]
    names = {f"{width}_{kind}.png" for width in widths for kind in ("labels", "overlay")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for width in widths:
        labels = model.predict(primary_image(13, width), with_regions=False).labels
        np.testing.assert_array_equal(read(tmp_path / "out" / f"{width}_labels.png"), labels)


@pytest.mark.parametrize("heights", [(7,), (1, 2, 4), (3, 4)])
def test_a_label_png_may_come_in_blocks(heights, tmp_path):
    labels = np.random.default_rng(0).integers(0, 256, (7, 11)).astype(np.uint8)
    save_label_png(tmp_path / "whole.png", labels, DATASET.palette)
    blocks = np.split(labels, np.cumsum(heights)[:-1])
    save_label_rows(tmp_path / "rows.png", blocks, labels.shape, DATASET.palette)
    for name in ("whole.png", "rows.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.mode == "P"
            assert picture.getpalette()[:9] == np.asarray(DATASET.palette).ravel().tolist()
            assert not any(picture.getpalette()[9:])
            np.testing.assert_array_equal(np.asarray(picture), labels)
