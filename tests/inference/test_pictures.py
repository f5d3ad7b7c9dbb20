import numpy as np
import pytest
from PIL import Image

from helpers.fakes import DATASET, brightest_channel_model, primary_image
from ranet_jax.errors import UserError
from ranet_jax.inference.label_png import save_label_png
from ranet_jax.inference.pictures import (
    STRIPES,
    Panel,
    _Writing,
    check_alpha,
    colorize,
    contact_sheet,
    overlay,
    overlay_with_legend,
    sheet_row,
)
from ranet_jax.inference.prediction import Prediction, RegionMap
from ranet_jax.inference.region_purity import region_purity
from ranet_jax.ops import Representatives

pytestmark = pytest.mark.slow

LABELS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)


def test_labels_get_the_palettes_colours_and_void_is_black():
    red, green, blue = DATASET.palette
    expected = [[red, green, blue], [blue, (0, 0, 0), red]]
    np.testing.assert_array_equal(colorize(LABELS, DATASET.palette), expected)


def test_a_label_png_keeps_labels_as_values_and_colours_as_palette(tmp_path):
    path = tmp_path / "labels.png"
    save_label_png(path, LABELS, DATASET.palette)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), LABELS)
        np.testing.assert_array_equal(
            np.asarray(picture.convert("RGB")), colorize(LABELS, DATASET.palette)
        )


def test_an_overlay_is_filled_lightly_within_opaque_contours():
    image = np.full((20, 30, 3), 100, np.uint8)
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 12:] = 1
    blended = overlay(image, labels, DATASET.palette, alpha=0.25)
    assert (blended[:, :11] == [125, 75, 75]).all()
    assert (blended[:, 11] == DATASET.palette[0]).all()
    assert (blended[:, 12] == DATASET.palette[1]).all()
    assert (blended[:, 13:] == [75, 125, 75]).all()
    contours_alone = overlay(image, labels, DATASET.palette, alpha=0.0)
    assert (contours_alone == image).all(axis=-1).sum() == 20 * 28
    opaque = overlay(image, labels, DATASET.palette, alpha=1.0)
    np.testing.assert_array_equal(opaque, colorize(labels, DATASET.palette))


def test_pixels_without_a_class_differ_from_every_class():
    """They are striped, so that a class may have any colour, even black or that of the stripes."""
    image = np.zeros((40, 40, 3), np.uint8)
    palette = [(0, 0, 0), *STRIPES]
    opaque = overlay(image, np.full((40, 40), 255, np.uint8), palette, alpha=1.0)
    for row in (*opaque, *opaque.swapaxes(0, 1)):
        assert {tuple(color) for color in np.unique(row, axis=0).tolist()} == set(STRIPES)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(UserError, match="from 0"):
        check_alpha(alpha)


def test_an_overlay_lies_at_its_own_size_above_a_legend_of_what_it_shows():
    image = np.full((50, 200, 3), 100, np.uint8)
    labels = np.zeros((50, 200), np.uint8)
    one = overlay_with_legend(image, labels, DATASET, 0.4)
    np.testing.assert_array_equal(
        np.asarray(one)[:50], overlay(image, labels, DATASET.palette, 0.4)
    )
    assert one.width == 200
    legend = one.crop((0, 50, *one.size))
    colors = {color for _, color in legend.getcolors(1 << 20)}
    assert DATASET.palette[0] in colors
    assert not set(DATASET.palette[1:]) & colors
    labels[10:20, 10:20] = 255
    both = overlay_with_legend(image, labels, DATASET, 0.4).crop((0, 50, *one.size))
    assert ink(both).sum() > 1.5 * ink(legend).sum()
    assert overlay_with_legend(image[:, :5], labels[:, :5], DATASET, 0.4).width == 160


def colour_rows():
    model = brightest_channel_model()
    rows = []
    for seed, shape in enumerate([(40, 40), (20, 40)]):
        image = primary_image(*shape, seed)
        truth = image.argmax(-1).astype(np.uint8)
        rows.append(sheet_row(image, model.predict(image), DATASET.palette, truth))
    return rows


def test_a_contact_sheet_has_rows_titles_and_a_legend():
    rows = colour_rows()
    assert list(rows[0]) == ["image", "truth", "coarse", "fine", "boundary", "regions"]
    sheet = contact_sheet(rows, DATASET, picture_width=200)
    assert sheet.width == 8 + 6 * 208
    # Pictures, titles, captions, class names and two notes; text takes 14 pixels a line or more.
    assert sheet.height > 200 + 100 + 6 * 14
    seen = {color for _, color in sheet.getcolors(maxcolors=1 << 24)}
    assert set(DATASET.palette) <= seen
    without_classes = contact_sheet(rows, picture_width=200)
    assert without_classes.height < sheet.height
    with pytest.raises(UserError):
        contact_sheet([], DATASET)
    with pytest.raises(UserError):
        contact_sheet([rows[0], {"image": rows[1]["image"]}], DATASET)


def test_pictures_of_a_row_are_what_their_titles_say():
    image = np.zeros((20, 40, 3), np.uint8)
    labels = np.zeros((20, 40), np.uint8)
    boundary = np.zeros((20, 40), np.float32)
    boundary[:, 20:] = 1
    halves = np.repeat([[0] * 5 + [5] * 5], 5, axis=0).astype(np.int32)
    slots = Representatives(
        np.array([0, 5], np.int32), np.array([[0], [5]], np.int32), np.ones((2, 1), bool)
    )
    prediction = Prediction(
        labels=labels,
        probabilities=np.ones((20, 40, 1), np.float32),
        boundary=boundary,
        regions=RegionMap(halves, np.ones((5, 10), np.float32), slots),
    )
    truth = np.zeros((20, 40), np.uint8)
    truth[:, 10:20] = 1  # half of the left region
    purity = region_purity(halves, truth)
    row = sheet_row(image, prediction, DATASET.palette, truth, purity)
    assert list(row) == ["image", "truth", "fine", "boundary", "regions"]
    assert row["image"].caption == row["boundary"].caption == ""
    assert "2 regions of 8" in row["regions"].caption
    assert "largest 50 %" in row["regions"].caption
    # In the left region, columns 0, 1 and 2 (at 0, 4.3 and 8.7) are category 0, columns 3 and 4
    # category 1. The right region is all category 0: 15 + 25 of 50.
    assert row["regions"].caption.endswith("purity 0.80")
    grey = row["boundary"].picture
    assert grey.shape == row["regions"].picture.shape == (160, 320, 3)
    assert (grey[:, :150] == 0).all()
    assert (grey[:, 170:] == 255).all()


def ink(sheet):
    """Where a sheet has dark pixels."""
    return np.asarray(sheet.convert("L")) < 128


def test_captions_stand_above_their_pictures_and_keep_to_their_columns():
    light = np.full((50, 100, 3), 200, np.uint8)
    plain = contact_sheet([{"a": Panel(light), "b": Panel(light)}], picture_width=200)
    assert plain.size == (8 + 2 * 208, plain.height)
    words = "many words that take more than one line of a column as narrow as this one is"
    captioned = contact_sheet(
        [{"a": Panel(light, caption=words), "b": Panel(light)}], picture_width=200
    )
    grown = captioned.height - plain.height
    assert grown >= 3 * 14
    title = plain.height - 100 - 3 * 8  # between the upper margin and the pictures
    added = ink(captioned)[8 + title : 8 + title + grown]
    columns = np.flatnonzero(added.any(axis=0))
    assert columns.min() >= 8
    assert 150 < columns.max() < 208
    assert added.sum() > 300
    rows_of_ink = np.flatnonzero(added.any(axis=1))
    assert rows_of_ink.max() - rows_of_ink.min() > 2 * 14
    # The picture lies below them.
    sheet = np.asarray(captioned)
    assert (sheet[8 + title + grown : 8 + title + grown + 100, 8:208] == 200).all()


def test_a_note_stands_below_once():
    light = np.full((50, 100, 3), 200, np.uint8)
    rows = [{"a": Panel(light)}] * 3
    noted = [{"a": Panel(light, note="how to read it")}] * 3
    grown = contact_sheet(noted).height - contact_sheet(rows).height
    assert 14 <= grown < 2 * 14


def test_narrow_pictures_have_columns_wide_enough_for_text():
    tall = np.full((60, 2, 3), 200, np.uint8)
    assert contact_sheet([{"a": Panel(tall)}], picture_width=2).width == 8 + 168


def test_a_row_leaves_out_what_there_is_not():
    model = brightest_channel_model()
    image = primary_image(8, 8)
    row = sheet_row(image, model.predict(image, with_regions=False), DATASET.palette)
    assert list(row) == ["image", "coarse", "fine", "boundary"]


def test_a_percent_sign_stays_with_its_number():
    writing = _Writing(12)
    width = writing.length("largest 9") + 1  # too narrow for the sign
    text = np.asarray(writing.block("largest 9 % of it", width))
    word = np.asarray(writing.block("largest", width))
    np.testing.assert_array_equal(text[: writing.line], word)
    rest = np.asarray(writing.block("9 % of it", width))
    np.testing.assert_array_equal(text[writing.line :], rest)
