import numpy as np
import pytest
from PIL import Image, ImageCms

from ranet_jax.inference.prediction import RegionMap
from ranet_jax.inference.region_pictures import (
    REPRESENTATIVE,
    boundary_picture,
    contours,
    distinct_colors,
    feature_positions,
    region_caption,
    region_colors,
    region_picture,
)
from ranet_jax.inference.region_purity import region_purity
from ranet_jax.ops import Representatives
from ranet_jax.pipeline.metadata import default_color

CAMVID = (
    *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222)),
    *((128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
)
VOC = tuple(default_color(number) for number in range(21))


def lab(colors):
    """CIELAB of 8-bit sRGB colours by Little CMS."""
    row = Image.fromarray(np.asarray(colors).astype(np.uint8).reshape(1, -1, 3))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(row, *profiles, outputMode="LAB")
    lightness, a, b = np.moveaxis(np.asarray(converted)[0], -1, 0)
    return np.stack([lightness * (100 / 255), a.view(np.int8), b.view(np.int8)], -1)


def distances(colors, others):
    """Euclidean distances in CIELAB."""
    return np.linalg.norm(lab(colors)[:, None] - lab(others)[None], axis=-1)


def among(colors):
    return distances(colors, colors)[np.triu_indices(len(colors), 1)]


def test_the_tests_own_colour_space_has_the_known_values():
    primaries = lab([(255, 255, 255), (0, 0, 0), (255, 0, 0)])
    np.testing.assert_allclose(primaries, [(100, 0, 0), (0, 0, 0), (54, 81, 70)], atol=1.5)


@pytest.mark.parametrize("palette", [CAMVID, VOC])
def test_colours_differ_from_the_palette_and_from_each_other(palette):
    """2.3 is the least difference that people notice."""
    colors = distinct_colors(24, palette)
    for count, least in ((8, 24), (24, 18)):
        assert among(colors[:count]).min() > least
        for shade in (1.0, 0.6):  # as they are, and over a photograph's darkest parts
            assert distances(shade * colors[:count], palette).min() > least
    assert distances(colors, [REPRESENTATIVE]).min() > 50
    assert np.hypot(*lab(colors)[:, 1:].T).min() > 30  # no grey, which stands for no colour


def test_colours_are_the_same_every_time_and_however_many():
    colors = distinct_colors(64, CAMVID)
    assert among(colors).min() > 10
    np.testing.assert_array_equal(distinct_colors(5, CAMVID), colors[:5])
    assert distinct_colors(0).shape == (0, 3)


def region_map(labels, roots, indices=None):
    labels = np.array(labels, np.int32)
    indices = np.array(indices or [[max(root, 0)] for root in roots], np.int32)
    valid = (np.array(roots) >= 0)[:, None] & np.ones(indices.shape, bool)
    representatives = Representatives(np.array(roots, np.int32), indices, valid)
    return RegionMap(labels, np.ones(labels.shape, np.float32), representatives)


def stripes(count, width=2, height=4):
    """Vertical stripes of one region each, separated by columns of single pixels."""
    pixels = np.arange(height * count * (width + 1)).reshape(height, -1)
    starts = np.arange(count) * (width + 1)
    labels = pixels.copy()
    for start in starts:
        labels[:, start : start + width] = start
    return labels, starts.tolist()


def test_regions_side_by_side_differ_most():
    labels, starts = stripes(12)
    colors = region_colors(region_map(labels, starts), CAMVID)
    assert list(colors) == starts
    in_a_row = np.array([colors[start] for start in starts])
    assert among(in_a_row).min() > 25
    beside = np.diag(distances(in_a_row[:-1], in_a_row[1:]))
    assert beside.min() > 45


def test_regions_without_a_slot_or_of_few_pixels_have_no_colour():
    labels, starts = stripes(3)
    slots = [starts[1], starts[0], 2, -1]  # 2 is a single pixel
    assert list(region_colors(region_map(labels, slots))) == [starts[1], starts[0]]
    labels, starts = stripes(3, height=3)  # six pixels each
    assert region_colors(region_map(labels, starts)) == {}


@pytest.mark.parametrize(
    ("labels", "outlined", "expected"),
    [
        (
            [[5, 5, 0], [5, 5, 1], [2, 3, 4]],
            [[1, 1, 0], [1, 1, 0], [0, 0, 0]],
            [[0, 1, 0], [1, 1, 0], [0, 0, 0]],
        ),
        (
            [[0, 1, 1], [2, 1, 1], [3, 4, 5]],
            [[0, 1, 1], [0, 1, 1], [0, 0, 0]],
            [[1, 0, 0], [1, 1, 1], [0, 0, 0]],
        ),
        (
            [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
            [[0, 0, 0], [1, 1, 1], [1, 1, 1]],
            [[1, 1, 1], [0, 0, 0], [0, 0, 0]],
        ),
    ],
)
def test_contours_lie_where_outlined_regions_end(labels, outlined, expected):
    marked = contours(np.array(labels), np.array(outlined, bool))
    np.testing.assert_array_equal(marked, np.array(expected, bool))


def test_boundary_probabilities_are_greys():
    picture = boundary_picture(np.array([[0, 0.2], [0.6, 1]], np.float32))
    np.testing.assert_array_equal(picture, np.array([[[0], [51]], [[153], [255]]]).repeat(3, 2))


def test_a_caption_counts_regions_and_purity():
    labels = np.repeat([[0, 2, 4]], 4, axis=0).repeat(2, axis=1)  # three stripes of eight
    regions = region_map(labels, [0, 2, -1])
    count = "3 regions of 8 or more feature-map pixels, largest 33 % of the image"
    assert region_caption(regions) == count
    # Most frequent: 8 of 8, 6 of 8, and 2 of the 4 that are labelled; 16 of 20.
    truth = np.array(
        [
            [0, 0, 1, 1, 255, 255],
            [0, 0, 1, 1, 255, 255],
            [0, 0, 1, 1, 0, 0],
            [0, 0, 2, 2, 1, 1],
        ],
        np.uint8,
    )
    assert region_caption(regions, region_purity(regions.labels, truth)) == f"{count}, purity 0.80"
    nothing_labelled = np.full((40, 60), 7, np.uint8)
    purity = region_purity(regions.labels, nothing_labelled, ignore_label=7)
    assert region_caption(regions, purity) == count


def test_a_caption_tells_one_region_from_none():
    whole = region_map(np.zeros((5, 8), np.int32), [0])
    one = "1 region of 8 or more feature-map pixels, largest 100 % of the image, purity 1.00"
    purity = region_purity(whole.labels, np.zeros((10, 16), np.uint8))
    assert region_caption(whole, purity) == one
    single = region_map(np.arange(40).reshape(5, 8), [0, 1])
    none = "0 regions of 8 or more feature-map pixels, largest 2 % of the image"
    assert region_caption(single) == none


def test_feature_pixels_lie_where_aligned_corners_put_them():
    positions = feature_positions(np.array([0, 4, 8]), (3, 3), (9, 9))
    np.testing.assert_array_equal(positions, [[0, 0], [4, 4], [8, 8]])
    np.testing.assert_array_equal(feature_positions(np.array([2]), (1, 3), (7, 11)), [[0, 10]])


def test_feature_pixels_lie_in_the_middle_of_cells_without_aligned_corners():
    positions = feature_positions(np.array([0, 4, 8]), (3, 3), (9, 9), align_corners=False)
    np.testing.assert_array_equal(positions, [[1, 1], [4, 4], [7, 7]])


def test_regions_are_tinted_and_representatives_are_green_dots():
    # Three stripes of two columns; the last has no slot, the second one dot.
    labels = np.tile(np.array([0, 0, 2, 2, 4, 4], np.int32), (4, 1))
    regions = region_map(labels, [0, 2, -1], [[6, 13], [21, 21], [0, 0]])
    height, width = 301, 501  # a hundred pixels between feature pixels
    image = np.full((61, 101, 3), 200, np.uint8)
    picture = region_picture(image, regions, (height, width), CAMVID)
    assert picture.shape == (height, width, 3)

    for y, x in ((100, 0), (200, 100), (300, 300)):  # pixels 6, 13 and 21
        np.testing.assert_array_equal(picture[y, x], REPRESENTATIVE)
    first, second, untinted = picture[300, 20], picture[0, 300], picture[150, 450]
    assert distances([first], [second])[0, 0] > 90
    np.testing.assert_array_equal(picture[:40, :100], np.broadcast_to(first, (40, 100, 3)))
    for tint in (first, second):
        assert np.hypot(*lab([tint])[0, 1:]) > 30
    assert len(set(untinted.tolist())) == 1
    assert 0 < untinted[0] < 200
    # Borders lie halfway between the columns at 100 and 200, and at 300 and 400.
    white = np.flatnonzero((picture[150] == 255).all(axis=-1))
    np.testing.assert_array_equal(white, [149, 349])


def test_single_pixels_leave_the_picture_clear():
    """The left is a region with a slot; on the right are single pixels, some with slots."""
    labels = np.arange(10 * 20).reshape(10, 20)
    labels[:, :10] = 0
    regions = region_map(labels, [0, 15, 56, 117])
    image = np.random.default_rng(0).integers(0, 256, (40, 80, 3)).astype(np.uint8)
    picture = region_picture(image, regions, (181, 381)).astype(int)
    right = picture[:, 192:]
    assert (np.ptp(right, axis=-1) == 0).all()
    assert right.max() < 128
    assert right.std() > 10  # the photograph
    assert (picture[:, 189] == 255).all()


def test_the_photograph_shows_through_a_tint():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 255
    picture = region_picture(image, region_map(np.zeros((5, 9), np.int32), [0]), (41, 81))
    dark, bright = picture[20, 20].astype(int), picture[20, 60].astype(int)
    np.testing.assert_allclose(dark, 0.6 * bright, atol=1)
    assert bright.max() > 150


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (700, 600)])
def test_region_pictures_of_any_size(size):
    image = np.zeros((*size, 3), np.uint8)
    for regions in (
        region_map([[0]], [0]),
        region_map(np.zeros((4, 6), np.int32), [0, -1]),
    ):
        picture = region_picture(image, regions, size)
        assert picture.shape == (*size, 3)
        np.testing.assert_array_equal(picture, region_picture(image, regions, size))
