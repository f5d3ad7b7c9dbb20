import errno

import numpy as np
import pytest
from PIL import Image

from helpers.fakes import brightest_channel_model, primary_image
from ranet_jax.errors import UserError
from ranet_jax.inference import files as predict
from ranet_jax.inference.files import find_images, predict_files, read_image


@pytest.fixture(scope="module")
def model():
    return brightest_channel_model()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "F"])
def test_images_of_any_mode_are_read(mode, tmp_path):
    grey = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    source = Image.fromarray(grey).convert("RGB").convert("L" if mode == "F" else mode)
    picture = source.convert(mode)
    suffix = {"CMYK": "tif", "YCbCr": "tif", "HSV": "tif", "F": "tif"}.get(mode, "png")
    path = tmp_path / f"image.{suffix}"
    if mode == "HSV":  # no format holds it
        picture = picture.convert("RGB")
    picture.save(path)
    expected = np.stack([grey] * 3, -1).astype(int)
    assert read_image(path).dtype == np.uint8
    np.testing.assert_allclose(read_image(path).astype(int), expected, atol=2)


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[..., 1].tolist() == [[0, 0, 1], [128, 255, 255]]


def test_a_palette_with_transparency_is_read(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "palette.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_the_exif_orientation_is_respected(tmp_path):
    pixels = primary_image(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_predictions_are_written_and_failures_reported(model, tmp_path, capsys):
    inputs, output = tmp_path / "in", tmp_path / "new" / "out"
    inputs.mkdir()
    image = primary_image(24, 32)
    Image.fromarray(image).save(inputs / "a.png")
    Image.fromarray(image[..., 0]).save(inputs / "c.bmp")
    (inputs / "b.jpg").write_bytes(b"not an image")
    (inputs / "notes.txt").write_text("no image either, and not asked for")

    failures = predict_files(model, [inputs, tmp_path / "missing.png"], output)
    assert len(failures) == 2
    shown = capsys.readouterr().err
    assert "b.jpg" in shown
    assert "missing.png" in shown
    names = {f"{stem}_{kind}.png" for stem in "ac" for kind in ("labels", "overlay", "regions")}
    assert {path.name for path in output.iterdir()} == names
    with Image.open(output / "a_labels.png") as labels:
        assert labels.mode == "P"
        np.testing.assert_array_equal(np.asarray(labels), model.predict(image).labels)
    with Image.open(output / "a_overlay.png") as overlay:
        assert overlay.size == (32, 24)
    with Image.open(output / "a_regions.png") as regions:
        # 24 x 32 pixels enlarged to 480 x 640, twice, a margin of 8 around each.
        assert regions.width == 8 + 2 * 648
        assert 480 + 4 * 14 < regions.height < 480 + 200


def test_regions_and_boundary_lie_side_by_side_under_captions(model, tmp_path):
    image = np.zeros((30, 40, 3), np.uint8)
    image[:, 20:, 1] = 255  # the second channel is the score of a boundary
    Image.fromarray(image).save(tmp_path / "image.png")
    predict_files(model, [tmp_path / "image.png"], tmp_path / "out")
    with Image.open(tmp_path / "out" / "image_regions.png") as opened:
        sheet = np.asarray(opened).astype(int)
    top = np.flatnonzero((sheet[:, 8 + 630] == 255).all(axis=-1) & (sheet[:, 8] == 128).all(-1))[0]
    assert top >= 8 + 2 * 14  # title and caption
    boundary, regions = sheet[top : top + 480, 8:648], sheet[top : top + 480, 656:1296]
    assert (boundary[:, :280] == 128).all()  # even scores: one half
    assert (boundary[:, 350:] == 255).all()
    left, right = regions[100, 100], regions[100, 600]
    assert np.ptp(left) > 50
    assert np.ptp(right) > 50
    assert np.abs(left - right).sum() > 150
    assert (sheet[:top, 656:] < 100).any()
    assert (sheet[top + 480 :] < 100).any()


@pytest.mark.parametrize(
    ("shape", "width", "height"),
    [((640, 960), 960, 640), ((1200, 1920), 960, 600), ((1300, 4), 160, 960)],
)
def test_pictures_of_regions_are_neither_small_nor_huge(model, shape, width, height, tmp_path):
    Image.fromarray(primary_image(*shape)).save(tmp_path / "image.png")
    predict_files(model, [tmp_path / "image.png"], tmp_path / "out")
    with Image.open(tmp_path / "out" / "image_regions.png") as regions:
        assert regions.width == 8 + 2 * (width + 8)
        assert height + 4 * 14 < regions.height < height + 400


def test_a_cut_off_image_is_a_failure(model, tmp_path):
    whole = tmp_path / "whole.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    failures = predict_files(model, [tmp_path / "cut.png", whole], tmp_path / "out")
    assert len(failures) == 1
    assert "cut.png" in failures[0]
    assert (tmp_path / "out" / "whole_labels.png").is_file()


def test_images_of_one_name_are_refused_before_the_start(model, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        Image.fromarray(primary_image(4, 4)).save(tmp_path / folder / "same.png")
    with pytest.raises(UserError, match="same_labels"):
        predict_files(model, [tmp_path / "x", tmp_path / "y"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_overwritten(model, tmp_path):
    for name in ("a.png", "a_labels.png"):
        Image.fromarray(primary_image(4, 4)).save(tmp_path / name)
    with pytest.raises(UserError, match="overwrite"):
        predict_files(model, [tmp_path], tmp_path)


def test_an_output_that_is_a_file_is_refused(model, tmp_path):
    Image.fromarray(primary_image(4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="output directory"):
        predict_files(model, [tmp_path / "a.png"], tmp_path / "a.png")


def test_files_are_found_once_and_in_order(tmp_path):
    for name in ("b.png", "a.png", "c.JPG", "d.pdf", "e.txt"):
        (tmp_path / name).touch()
    found = find_images([tmp_path / "c.JPG", tmp_path, tmp_path / "a.png"])
    assert [path.name for path in found] == ["c.JPG", "a.png", "b.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image"):
        find_images([tmp_path / "empty"])


def test_pictures_that_cannot_be_written_end_in_one_sentence(model, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predict, "save_label_png", full)
    image = tmp_path / "image.png"
    Image.fromarray(primary_image(4, 6)).save(image)
    with pytest.raises(UserError, match=r"image\.png cannot be written .*No space left"):
        predict_files(model, [image], tmp_path / "out")
