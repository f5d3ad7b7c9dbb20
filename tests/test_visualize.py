import json

import numpy as np
import pytest
from fakes import DATASET, brightest_channel_model, primary_image
from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.inference import RegionMap
from ranet_jax.ops import Representatives
from ranet_jax.visualize import (
    REPRESENTATIVE,
    colorize,
    contact_sheet,
    curves,
    distinct_colors,
    feature_positions,
    overlay,
    region_picture,
    save_label_png,
    sheet_row,
)

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


def test_an_overlay_blends_image_and_colours():
    image = np.full((2, 3, 3), 100, np.uint8)
    blended = overlay(image, LABELS, DATASET.palette, alpha=0.25)
    np.testing.assert_array_equal(blended[0, 0], [125, 75, 75])
    np.testing.assert_array_equal(overlay(image, LABELS, DATASET.palette, alpha=0.0), image)


def test_feature_pixels_lie_where_aligned_corners_put_them():
    positions = feature_positions(np.array([0, 4, 8]), (3, 3), (9, 9))
    np.testing.assert_array_equal(positions, [[0, 0], [4, 4], [8, 8]])
    np.testing.assert_array_equal(feature_positions(np.array([2]), (1, 3), (7, 11)), [[0, 10]])


def test_distinct_colours_are_distinct_and_no_green_of_a_dot():
    colors = distinct_colors(64).astype(int)
    distances = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert distances[np.triu_indices(64, 1)].min() > 8
    assert distances[np.triu_indices(8, 1)].min() > 90
    assert np.abs(colors - REPRESENTATIVE).sum(-1).min() > 150
    np.testing.assert_array_equal(distinct_colors(5), colors[:5])
    assert distinct_colors(0).shape == (0, 3)


def three_stripes():
    """A 4 x 6 grid of three vertical stripes; the last has no slot, the second one dot."""
    labels = np.tile(np.array([0, 0, 2, 2, 4, 4], np.int32), (4, 1))
    representatives = Representatives(
        roots=np.array([0, 2, -1], np.int32),
        indices=np.array([[6, 13], [21, 0], [0, 0]], np.int32),
        valid=np.array([[True, True], [True, False], [False, False]]),
    )
    return RegionMap(labels, np.ones((4, 6), np.float32), representatives)


def test_regions_are_tinted_and_representatives_are_green_dots():
    image = np.full((61, 101, 3), 200, np.uint8)
    picture = region_picture(image, three_stripes())
    height, width = picture.shape[:2]
    assert (height, width) == (512, 848)

    def at(index):
        y, x = feature_positions(np.array([index]), (4, 6), (height, width))[0]
        return picture[round(y), round(x)].astype(int)

    for representative in (6, 13, 21):
        np.testing.assert_array_equal(at(representative), REPRESENTATIVE)
    colors = distinct_colors(3).astype(int)
    for index, slot in ((18, 0), (8, 1)):  # pixels of a slot's region without a dot
        others = [other for other in range(2) if other != slot]
        distance = np.abs(at(index) - colors[slot]).sum()
        assert all(distance < np.abs(at(index) - colors[other]).sum() for other in others)
    untinted = at(16)
    assert len(set(untinted.tolist())) == 1
    assert 0 < untinted[0] < 200
    # The border between columns 1 and 2 lies halfway between their centres.
    between = round(1.5 * (width - 1) / 5)
    assert picture[height // 2, between - 3 : between + 3].min(axis=-1).max() > 180


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (700, 600)])
def test_region_pictures_of_any_size(shape):
    image = np.zeros((*shape, 3), np.uint8)
    if shape == (1, 1):
        regions = RegionMap(
            np.zeros((1, 1), np.int32),
            np.ones((1, 1), np.float32),
            Representatives(
                np.zeros(1, np.int32), np.zeros((1, 1), np.int32), np.ones((1, 1), bool)
            ),
        )
    else:
        regions = three_stripes()
    picture = region_picture(image, regions)
    assert min(picture.shape[:2]) == max(512, min(shape))
    np.testing.assert_array_equal(picture, region_picture(image, regions))


def test_a_contact_sheet_has_rows_titles_and_a_legend():
    model = brightest_channel_model()
    rows = []
    for seed, shape in enumerate([(40, 40), (20, 40)]):
        image = primary_image(*shape, seed)
        truth = image.argmax(-1).astype(np.uint8)
        rows.append(sheet_row(image, model.predict(image), DATASET.palette, truth))
    assert list(rows[0]) == ["image", "truth", "coarse", "fine", "regions"]
    sheet = contact_sheet(rows, DATASET, picture_width=100)
    assert sheet.width == 8 + 5 * 108
    assert sheet.height > 100 + 50
    seen = {color for _, color in sheet.getcolors(maxcolors=1 << 24)}
    assert set(DATASET.palette) <= seen
    with pytest.raises(UserError):
        contact_sheet([], DATASET)
    with pytest.raises(UserError):
        contact_sheet([rows[0], {"image": rows[1]["image"]}], DATASET)


def test_a_row_leaves_out_what_there_is_not():
    model = brightest_channel_model()
    image = primary_image(8, 8)
    row = sheet_row(image, model.predict(image, with_regions=False), DATASET.palette)
    assert list(row) == ["image", "coarse", "fine"]


def test_curves_draw_a_run_that_is_still_writing(tmp_path):
    records = [
        {"step": step, "loss": 3 / step, "fine": 2 / step, "coarse": 1 / step, "learning_rate": 0.1}
        for step in range(1, 21)
    ]
    records.insert(10, {"step": 10, "fine_miou": 0.3, "fine_accuracy": 0.5, "coarse_miou": 0.2})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 21, "lo')
    curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100


def test_curves_without_a_run_are_refused(tmp_path):
    with pytest.raises(UserError, match="missing"):
        curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    (tmp_path / "metrics.jsonl").write_text("step 1\n")
    with pytest.raises(UserError, match="JSON"):
        curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
