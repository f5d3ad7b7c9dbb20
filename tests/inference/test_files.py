import errno
import os

import jax
import numpy as np
import pytest
from PIL import Image

from helpers.fakes import brightest_channel_model, primary_image
from helpers.predictions import failures
from ranet_jax.errors import UserError
from ranet_jax.inference import files as predict
from ranet_jax.inference.files import find_images, predict_files

pytestmark = pytest.mark.slow

# Files that macOS and Windows leave in folders of images.
LEFT_BY_SYSTEMS = ("._a.png", ".DS_Store", ".hidden.jpg", "Thumbs.db", "desktop.ini")


@pytest.fixture(scope="module")
def model():
    return brightest_channel_model()


def test_deep_images_are_predicted_in_their_range(model, tmp_path, capsys):
    """Prediction sees what training and the eye see, neither black nor white."""
    grey = primary_image(24, 32)[..., 0]
    Image.fromarray(grey).save(tmp_path / "eight.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.fromarray((grey / 255).astype(np.float32)).save(tmp_path / "unit.tif")
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "integers.tif")
    Image.fromarray(grey.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    (refused, told) = failures(model, [tmp_path], tmp_path / "out")
    assert "integers.tif" in refused
    assert "twelve.png" in told
    capsys.readouterr()
    expected = model.predict(grey).labels
    for name in ("eight", "sixteen", "unit"):
        with Image.open(tmp_path / "out" / f"{name}_labels.png") as labels:
            np.testing.assert_array_equal(np.asarray(labels), expected)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MMx*\0\0\0\x08", b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_odd_exif_stops_nothing(model, tmp_path, exif):
    pixels = primary_image(24, 32)
    Image.fromarray(pixels).save(tmp_path / "odd.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    assert failures(model, [tmp_path], tmp_path / "out") == []
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_predictions_are_written_and_failures_reported(model, tmp_path, capsys):
    inputs, output = tmp_path / "in", tmp_path / "new" / "out"
    inputs.mkdir()
    image = primary_image(24, 32)
    Image.fromarray(image).save(inputs / "a.png")
    Image.fromarray(image[..., 0]).save(inputs / "c.bmp")
    (inputs / "b.jpg").write_bytes(b"not an image")
    (inputs / "notes.txt").write_text("no image either, and not asked for")

    found = failures(model, [inputs, tmp_path / "missing.png"], output)
    assert len(found) == 2
    shown = capsys.readouterr().err
    assert "b.jpg" in shown
    assert "missing.png" in shown
    names = {f"{stem}_{kind}.png" for stem in "ac" for kind in ("labels", "overlay", "regions")}
    assert {path.name for path in output.iterdir()} == names
    with Image.open(output / "a_labels.png") as labels:
        assert labels.mode == "P"
        np.testing.assert_array_equal(np.asarray(labels), model.predict(image).labels)
    with Image.open(output / "a_overlay.png") as overlay:
        assert overlay.width == 160  # the width of a narrow legend
        assert 24 + 14 < overlay.height < 24 + 60
    with Image.open(output / "a_regions.png") as regions:
        # Two pictures of 24 x 32 pixels enlarged to 480 x 640, with a margin of 8 around each.
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
    assert (boundary[:, :280] == 128).all()  # equal scores: one half
    assert (boundary[:, 350:] == 255).all()
    left, right = regions[100, 100], regions[100, 600]
    assert np.ptp(left) > 50
    assert np.ptp(right) > 50
    assert np.abs(left - right).sum() > 150
    assert (sheet[:top, 656:] < 100).any()
    assert (sheet[top + 480 :] < 100).any()


@pytest.mark.parametrize(
    ("shape", "width", "height"),
    [
        ((640, 960), 960, 640),
        pytest.param((1200, 1920), 960, 600, marks=pytest.mark.long),
        ((1300, 4), 160, 960),
    ],
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
    found = failures(model, [tmp_path / "cut.png", whole], tmp_path / "out")
    assert len(found) == 1
    assert "cut.png" in found[0]
    assert (tmp_path / "out" / "whole_labels.png").is_file()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9.")],
)
def test_an_image_too_large_for_memory_is_left_out(tmp_path, error):
    model = brightest_channel_model()
    forward = model.forward

    def limited(variables, images, **options):
        if images.shape[1] > 20:
            raise error
        return forward(variables, images, **options)

    model.forward = limited
    for name, height in (("large", 24), ("small", 12)):
        Image.fromarray(primary_image(height, 32)).save(tmp_path / f"{name}.png")
    (told,) = failures(model, [tmp_path], tmp_path / "out")
    assert "large.png cannot be predicted. An image of 32 x 24 pixels needs more memory" in told
    assert (tmp_path / "out" / "small_labels.png").is_file()


def test_other_faults_of_the_machine_are_not_taken_for_its_memory(model, monkeypatch):
    def broken(*arguments, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: no such thing")

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        model.predict(primary_image(4, 4))


def test_names_that_are_no_utf_8_are_predicted(model, tmp_path):
    Image.fromarray(primary_image(12, 16)).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    assert failures(model, [tmp_path], tmp_path / "out") == []
    assert os.path.exists(os.fsencode(tmp_path / "out") + b"/caf\xe9_labels.png")
    os.rename(os.fsencode(tmp_path) + b"/caf\xe9.png", os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    os.truncate(os.fsencode(tmp_path) + b"/caf\xe9.jpg", 30)
    (told,) = failures(model, [tmp_path], tmp_path / "out")
    assert told.encode(errors="surrogateescape").count(b"caf\xe9.jpg") == 1


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
    for name in ("b.png", "a.png", "c.JPG", "d.pdf", "e.txt", *LEFT_BY_SYSTEMS):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
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
