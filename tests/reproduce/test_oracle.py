"""The oracle: the true regions in a network that is otherwise unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import training
from helpers.numpy_layers import random_variables
from ranet_jax import ops
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.models.context.ranet import group_kernel
from ranet_jax.reproduce.oracle import MIXED, build_oracle, true_maps, with_truth
from ranet_jax.training.loop import train

pytestmark = pytest.mark.slow

CLASSES = 3


def network_config():
    config = training.tiny_config()
    config.model.context = "ranet"
    return config


def label_maps(size=32):
    """Two label maps: halves side by side, and quarters, one of which is ignored."""
    labels = np.zeros((2, size, size), np.uint8)
    labels[0, :, size // 2 :] = 1
    labels[1, size // 2 :] = 2
    labels[1, size // 2 :, : size // 2] = 255
    return labels


def test_true_maps_of_a_small_label_map():
    labels = jnp.array([[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 255, 255], [0, 0, 255, 255]])
    boundary, categories = true_maps(labels, (2, 3), CLASSES)
    # Cells are rows 0-1 and 2-3, and columns 0, 1-2 and 3; pixel 1 of a row reads column 2.
    # In the lower cells, 0 lies only beside ignored pixels.
    np.testing.assert_array_equal(boundary, [[0, 1, 0], [0, 0, 0]])
    sure, rest = 1 - MIXED + MIXED / 3, MIXED / 3
    first, third, unknown = [sure, rest, rest], [rest, rest, sure], [1 / 3] * 3
    expected = [[first, third, third], [first, unknown, unknown]]
    np.testing.assert_allclose(categories, expected, rtol=1e-6)


def test_true_maps_of_cells_that_fill_the_label_map():
    """The cells are rows 0-3, 4-7 and 8-11; with aligned corners they would be 0-2, 3-8, 9-11."""
    labels = jnp.array([[1, 1, 0, 2, 2, 2, 2, 2, 2, 2, 255, 0]]).T
    boundary, categories = true_maps(labels, (3, 1), CLASSES, align_corners=False)
    np.testing.assert_array_equal(boundary, [[1], [0], [0]])
    # The pixels in the middle of the cells are rows 2, 6 and 10.
    np.testing.assert_array_equal(categories[:2].argmax(axis=-1), [[0], [2]])
    np.testing.assert_allclose(categories[2, 0], [1 / 3] * 3, rtol=1e-6)


@pytest.mark.long
def test_regions_are_those_of_the_truth_whatever_the_weights():
    config = network_config()
    plain, oracle = build_model(config, CLASSES), build_oracle(config, CLASSES)
    labels = label_maps()
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    (batch,) = with_truth([{"image": images, "label": labels}])
    variables, same = (random_variables(model, jnp.asarray(images)) for model in (plain, oracle))
    assert jax.tree.structure(variables) == jax.tree.structure(same)

    def apply(model, seen):
        run = jax.jit(lambda variables, x: model.apply(variables, x, with_regions=True))
        return run(variables, jnp.asarray(seen))

    outputs, expected = apply(oracle, batch["image"]), apply(plain, images)
    np.testing.assert_allclose(outputs.coarse, expected.coarse, rtol=1e-6)
    np.testing.assert_allclose(outputs.boundary, expected.boundary, rtol=1e-6)
    assert not np.allclose(outputs.fine, expected.fine)
    grid = expected.boundary.shape[1:3]
    kernel = group_kernel(variables["params"]["context"]["rcb"]["group_kernel_deviation"])
    for index, label in enumerate(labels):
        maps = true_maps(jnp.asarray(label), grid, CLASSES)
        regions, score = ops.region_map(*maps, kernel, config.model.threshold)
        np.testing.assert_array_equal(outputs.regions.labels[index], regions)
        np.testing.assert_allclose(outputs.regions.score[index], score, rtol=1e-6)
    as_before = apply(oracle, images)
    np.testing.assert_allclose(as_before.fine, expected.fine, rtol=1e-6)


def test_ignored_labels_stay_ignored_and_so_does_padding():
    label = np.array([[[0, 255], [2, 1]]], np.uint8)
    (batch,) = with_truth([{"image": np.full((1, 2, 2, 3), 7, np.float32), "label": label}])
    np.testing.assert_array_equal(batch["image"][..., :3], 7)
    np.testing.assert_array_equal(batch["image"][0, ..., 3], [[1, 0], [3, 2]])


@pytest.mark.long
def test_it_trains_and_is_evaluated(tmp_path):
    config = training.tiny_config(steps=2)
    config.model.context = "ranet"
    result = train(
        config,
        tmp_path / "run",
        training.DATASET,
        lambda first: with_truth(training.train_batches(first)),
        lambda: with_truth(training.eval_batches()),
        build_oracle,
    )
    assert np.isfinite(result.fine.miou)
    maps = [
        true_maps(jnp.asarray(label), (6, 6), 2)
        for batch in training.eval_batches()
        for label in batch["label"]
    ]
    # In two steps W^g has not learned enough to move a score across the threshold.
    labels = [ops.region_map(*one, jnp.ones((1, 1)), config.model.threshold)[0] for one in maps]
    sizes = [np.bincount(np.asarray(x)).max() for x in labels]
    assert result.regions.counts.largest_pixels == sum(sizes)


def test_labels_of_another_size_are_refused():
    batch = {"image": np.zeros((2, 8, 8, 3), np.float32), "label": np.zeros((2, 4, 4), np.uint8)}
    with pytest.raises(UserError, match="label maps of the images' size"):
        next(with_truth([batch]))
