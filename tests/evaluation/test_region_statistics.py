"""Statistics of regions: counts by hand, scores, and warnings about useless partitions."""

import collections
import dataclasses
import fractions
import json
import math
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support
from sklearn.metrics.cluster import contingency_matrix

from helpers.fakes import DATASET, batched, halves
from ranet_jax.config import default_config
from ranet_jax.evaluation.region_statistics import (
    RegionCounts,
    RegionScores,
    count_batch,
    count_image,
)
from ranet_jax.evaluation.scoring import evaluate_batches
from ranet_jax.inference.model import Model
from ranet_jax.inference.region_purity import region_purity
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import Outputs, build_model
from ranet_jax.training.step import init_variables

# A region of eight pixels, one of three on the right, and a single pixel.
LABELS = np.array([[0, 0, 0, 3], [0, 0, 0, 3], [0, 0, 10, 3]], np.int32)
ROOTS = np.array([0, 10, -1], np.int32)
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 255], [0, 2, 1, 1]], np.uint8)
# Above one half at (0, 1), (0, 2), (0, 3), (1, 2), (2, 2), and at (1, 3), which is ignored.
BOUNDARY = np.array([[0.1, 0.9, 0.6, 0.7], [0.2, 0.5, 0.8, 0.9], [0.1, 0.3, 0.9, 0.4]], np.float32)
# The true boundary is at (0, 1), (0, 2), (1, 1), (1, 2), (2, 0), (2, 1) and (2, 2).
COUNTS = RegionCounts(
    images=1,
    pixels=12,
    regions=1,
    region_pixels=8,
    squared_sizes=64 + 9 + 1,
    largest_pixels=8,
    slot_pixels=8 + 1,
    single_pixels=1,
    labelled_pixels=11,
    pure_pixels=5 + 2 + 1,
    true_boundary=7,
    predicted_boundary=5,
    matched_boundary=4,
)


def test_counts_by_hand():
    assert count_image(LABELS, ROOTS, BOUNDARY, TRUTH) == COUNTS


def test_scores_by_hand():
    assert RegionScores(COUNTS).values() == {
        "regions_per_image": 1,
        "region_size": 8,
        "pixel_region_size": 74 / 12,
        "largest_region_share": 8 / 12,
        "slot_share": 9 / 12,
        "single_share": 1 / 12,
        "region_purity": 8 / 11,
        "boundary_precision": 4 / 5,
        "boundary_recall": 4 / 7,
        "boundary_f": 8 / 12,
    }


def test_a_finer_label_map_is_read_at_the_feature_pixels():
    """The docstring's map of `ops.boundary_cells`: rows 0 and 3, columns 0, 2 and 4 are read."""
    truth = np.array([[0, 0, 0, 1, 1]] * 4, np.uint8)
    truth[0, 2], truth[3, 4], truth[3, 0] = 2, 255, 255
    labels = np.array([[0, 0, 0], [3, 3, 3]], np.int32)
    counts = count_image(labels, np.array([-1]), np.full((2, 3), 0.6, np.float32), truth)
    # Categories 0 2 1 and ? 0 ?; cell (1, 0), pixels (2:4, 0:1), has no border.
    assert (counts.labelled_pixels, counts.pure_pixels) == (4, 1 + 1)
    assert (counts.regions, counts.region_pixels, counts.squared_sizes) == (0, 0, 18)
    assert (counts.true_boundary, counts.predicted_boundary, counts.matched_boundary) == (4, 6, 4)
    assert counts.slot_pixels == 0


def test_cells_that_fill_the_image_are_read_in_the_middle():
    """3 x 1 cells of 4 x 1 pixels, of which rows 2, 6 and 10 are read, not 0, 6 and 11."""
    truth = np.array([[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2]], np.uint8).T
    labels = np.array([[0], [0], [2]], np.int32)
    boundary = np.full((3, 1), 0.6, np.float32)
    counts = count_image(labels, np.array([-1]), boundary, truth, align_corners=False)
    # Borders are between rows 1 and 2, and between 9 and 10, in the first and the last cell.
    assert (counts.labelled_pixels, counts.pure_pixels, counts.true_boundary) == (3, 3, 2)
    assert region_purity(labels, truth, align_corners=False) == 1
    # With aligned corners, the first cell has the rows 0-2, the last the rows 9-11.
    assert region_purity(labels, truth) == 2 / 3
    truth = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]], np.uint8).T
    counts = count_image(labels, np.array([-1]), boundary, truth, align_corners=False)
    assert counts.true_boundary == 1  # rows 2 and 3 are in one cell
    assert count_image(labels, np.array([-1]), boundary, truth).true_boundary == 2


def test_cells_without_a_label_do_not_count_as_boundary():
    truth = np.full((5, 7), 255, np.uint8)
    counts = count_image(LABELS, ROOTS, np.ones((3, 4), np.float32), truth)
    without = ("labelled_pixels", "pure_pixels", "true_boundary")
    without += ("predicted_boundary", "matched_boundary")
    assert counts == dataclasses.replace(COUNTS, **dict.fromkeys(without, 0))


def random_image(seed, grid=(7, 9), shape=(13, 17)):
    """Random regions, slots, boundary and labels."""
    generator = np.random.default_rng(seed)
    roots = generator.choice(grid[0] * grid[1], 12, replace=False)
    labels = roots[generator.integers(0, 12, grid)].astype(np.int32)
    slots = np.append(roots[:5], -1).astype(np.int32)
    truth = np.repeat(generator.integers(0, 3, (shape[0], 1)), shape[1], axis=1).astype(np.uint8)
    truth[generator.random(shape) < 0.2] = 255
    return labels, slots, generator.random(grid).astype(np.float32), truth


def closest(position, cells, size):
    """The cell closest to a label pixel; the larger index if two are equally close."""
    place = fractions.Fraction(position * (cells - 1), size - 1)
    return min(range(cells), key=lambda cell: (abs(cell - place), -cell))


def cells_by_loops(truth, grid):
    """Cells with a pixel beside one of another category, and cells with a label."""
    height, width = truth.shape
    holds, labelled = np.zeros(grid, bool), np.zeros(grid, bool)
    for y in range(height):
        for x in range(width):
            if truth[y, x] == 255:
                continue
            cell = closest(y, grid[0], height), closest(x, grid[1], width)
            labelled[cell] = True
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width:
                    holds[cell] |= truth[v, u] not in (truth[y, x], 255)
    return holds, labelled


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed):
    labels, slots, boundary, truth = random_image(seed)
    scores = RegionScores(count_image(labels, slots, boundary, truth))

    holds, counted = cells_by_loops(truth, labels.shape)
    precision, recall, f, _ = precision_recall_fscore_support(
        holds[counted], boundary[counted] > 0.5, average="binary"
    )
    assert scores.boundary_precision == pytest.approx(precision)
    assert scores.boundary_recall == pytest.approx(recall)
    assert scores.boundary_f == pytest.approx(f)

    # Places 0, 2, 4 ... of both axes, for 13 = 2 * 7 - 1 and 17 = 2 * 9 - 1.
    categories = truth[::2, ::2]
    kept = categories != 255
    table = contingency_matrix(categories[kept], labels[kept])
    assert scores.region_purity == pytest.approx(table.max(axis=0).sum() / table.sum())

    sizes = collections.Counter(labels.ravel().tolist())
    large = [size for size in sizes.values() if size >= 8]
    assert scores.regions_per_image == len(large)
    assert scores.region_size == pytest.approx(np.mean(large))
    assert scores.pixel_region_size == pytest.approx(np.mean([sizes[x] for x in labels.flat]))
    assert scores.slot_share == pytest.approx(np.isin(labels, slots).mean())


def test_counts_add_up():
    images = [count_image(*random_image(seed)) for seed in range(3)]
    total = images[0] + images[1] + images[2]
    for field in dataclasses.fields(RegionCounts):
        assert getattr(total, field.name) == sum(getattr(one, field.name) for one in images)
    assert total + RegionCounts() == total


def test_a_vector_holds_all_counts():
    counts = dataclasses.replace(COUNTS, squared_sizes=2**45 + 1)
    vector = counts.to_vector()
    assert vector.dtype == np.int64
    assert RegionCounts.from_vector(vector) == counts
    for wrong in (vector[1:], np.append(vector, 0)):
        with pytest.raises(ValueError, match=f"13 counts are needed, not {len(wrong)}"):
            RegionCounts.from_vector(wrong)


@pytest.mark.slow
def test_a_batch_is_counted_without_its_padding():
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 1, (3, 4, 5, 2)), jnp.float32)
    truth = np.random.default_rng(1).integers(0, 3, (3, 6, 8)).astype(np.uint8)
    outputs = Outputs(fine=logits, boundary=logits, regions=halves(logits))
    mask = np.array([True, False, True])
    expected = RegionCounts()
    for index in (0, 2):
        labels = np.asarray(outputs.regions.labels[index]).reshape(4, 5)
        roots = np.asarray(outputs.regions.representatives.roots[index])
        boundary = np.asarray(jax.nn.softmax(logits[index])[..., 1])
        expected += count_image(labels, roots, boundary, truth[index])
    assert count_batch(outputs, truth, mask) == expected
    assert expected.images == 2
    assert count_batch(outputs.replace(regions=None), truth, mask) == RegionCounts()


def test_nothing_to_divide_by_is_nan_then_none_then_a_dash():
    scores = RegionScores(RegionCounts())
    assert all(math.isnan(value) for value in scores.values().values())
    fields = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert {fields[name] for name in scores.values()} == {None}
    assert fields["warning"] is None
    assert scores.table().count(" - |") == 10
    assert scores.summary() == "- regions per image, purity -, single pixels -, boundary F -"


def test_a_boundary_head_that_never_fires_has_an_f_but_no_precision():
    scores = RegionScores(RegionCounts(true_boundary=5))
    assert math.isnan(scores.boundary_precision)
    assert (scores.boundary_recall, scores.boundary_f) == (0, 0)


def test_table_and_json_by_hand():
    expected = """
        | regions                                            |  value |
        |:---------------------------------------------------|-------:|
        | regions per image, of 8 or more feature-map pixels |    1.0 |
        | their mean size, pixels                            |    8.0 |
        | mean size of a pixel's region, pixels              |    6.2 |
        | pixels in the largest region                       | 66.7 % |
        | pixels in regions that exchange context            | 75.0 % |
        | pixels that form a region by themselves            |  8.3 % |
        | purity                                             | 72.7 % |
        | boundary precision                                 | 80.0 % |
        | boundary recall                                    | 57.1 % |
        | boundary F                                         | 66.7 % |
    """
    scores = RegionScores(COUNTS)
    assert scores.table() == textwrap.dedent(expected).strip()
    assert scores.summary() == (
        "1.0 regions per image, purity 72.7 %, single pixels 8.3 %, boundary F 66.7 %"
    )
    fields = scores.to_json()
    assert fields["counts"]["squared_sizes"] == 74
    assert fields["region_purity"] == 8 / 11
    assert fields["warning"] is None


def test_one_region_over_the_whole_image_is_told():
    scores = RegionScores(RegionCounts(images=2, pixels=1000, largest_pixels=968))
    assert scores.warning() == (
        "The largest region of an image covers 97 % of the pixels, so that regions do not tell"
        " objects apart; the likely cause is that boundary scores are too low or categories too"
        " alike between objects: train longer, raise config.loss.boundary, or raise"
        " config.model.threshold."
    )
    assert scores.to_json()["warning"] == scores.warning()
    assert scores.table().endswith(f"|\n\n{scores.warning()}")


def test_regions_of_single_pixels_are_told():
    scores = RegionScores(RegionCounts(images=2, pixels=1000, single_pixels=950))
    assert scores.warning() == (
        "95 % of the feature pixels are regions of one pixel, so that hardly any context is"
        " gathered; the likely cause is that boundary scores are high everywhere or the semantic"
        " scores are still noise: train longer, or lower config.model.threshold."
    )


def test_up_to_nine_tenths_nothing_is_told():
    counts = RegionCounts(images=2, pixels=1000, largest_pixels=900, single_pixels=900)
    assert RegionScores(counts).warning() is None


def tiny_model(crop_size):
    """A small RANet with random weights that divides noise into regions of many sizes."""
    config = default_config()
    config.data.mean = (0.0, 0.0, 0.0)
    config.data.std = (64.0, 64.0, 64.0)
    config.model.update(backbone="resnet18", width=4, stages=1, channels=8)
    config.model.update(num_regions=4, threshold=0.1, region_path="dense")
    module = build_model(config, DATASET.num_classes)
    variables = jax.tree.map(np.asarray, init_variables(module, jax.random.PRNGKey(0), crop_size))
    scores = variables["params"]["context"]["rcb"]
    for name in ("boundary_logit", "semantic_logit"):
        scores[name] = jax.tree.map(lambda x: 30 * x, scores[name])
    return Model(config, module, variables, DATASET)


@pytest.mark.slow
@pytest.mark.parametrize("align_corners", [True, False])
def test_counts_are_those_of_predicting_image_by_image(align_corners):
    model = tiny_model((24, 28))
    model.settings = dataclasses.replace(model.settings, align_corners=align_corners)
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    images = colors.repeat(4, axis=1).repeat(4, axis=2)
    labels = generator.integers(0, 3, (5, 3, 2)).astype(np.uint8).repeat(8, 1).repeat(14, 2)
    labels[:, :2] = 255  # so that rows 0 and 2 differ
    expected = RegionCounts()
    for image, truth in zip(images, labels, strict=True):
        regions = model.predict(image).regions
        seen = jnp.asarray(image[None] / np.float32(64))
        scores = model.forward(model.variables, seen).boundary[0]
        boundary = np.asarray(jax.nn.softmax(scores)[..., 1])
        assert regions.align_corners == align_corners
        expected += count_image(
            *(regions.labels, regions.representatives.roots, boundary, truth),
            align_corners=align_corners,
        )
    assert (expected.images, expected.pixels, expected.regions > 5) == (5, 5 * 6 * 7, True)
    assert 0 < expected.single_pixels < 150
    assert 0 < expected.matched_boundary < expected.true_boundary < expected.pixels

    def evaluate(**settings):
        batches = batched(images / np.float32(64), labels, 2)
        settings = InferenceSettings(align_corners=align_corners, **settings)
        return evaluate_batches(
            model.forward, model.variables, batches, DATASET, settings, progress=False
        )

    assert evaluate().regions == RegionScores(expected)
    assert evaluate(scales=(0.5, 1.0), flip=True).regions == RegionScores(expected)
    assert evaluate(regions=False).regions is None
