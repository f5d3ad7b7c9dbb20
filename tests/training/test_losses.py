"""Losses against NumPy float64 sums."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ranet_jax import ops
from ranet_jax.errors import UserError
from ranet_jax.models import Outputs
from ranet_jax.training.losses import (
    BoundaryLoss,
    count_valid,
    cross_entropy_sum,
    lovasz_softmax_sum,
    segmentation_loss,
)

pytestmark = pytest.mark.slow

WEIGHTS = {"fine": 1.0, "coarse": 0.4, "boundary": 0.08, "fine_boundary": 0.2}


def nll(logits, targets, valid, class_weights=(1.0, 1.0, 1.0)):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -sum(
        class_weights[targets[index]] * log_probabilities[index][targets[index]]
        for index in zip(*np.nonzero(valid), strict=True)
    )


def example(seed=0, shape=(2, 5, 6), classes=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, shape).astype(np.uint8)
    labels[rng.random(shape) < 0.3] = 255
    return rng, labels


def test_cross_entropy_ignores_and_sums():
    rng, labels = example()
    logits = rng.normal(size=(*labels.shape, 3)).astype(np.float32)
    valid = labels != 255
    total = cross_entropy_sum(
        jnp.asarray(logits), jnp.asarray(labels, jnp.int32), jnp.asarray(valid)
    )
    np.testing.assert_allclose(total, nll(logits, labels, valid), rtol=1e-5)


def test_ignored_pixels_have_no_gradient():
    _, labels = example()
    logits = jnp.zeros((*labels.shape, 3))
    valid = labels != 255
    gradient = jax.grad(cross_entropy_sum)(
        logits, jnp.asarray(labels, jnp.int32), jnp.asarray(valid)
    )
    assert np.all(gradient[~valid] == 0)
    assert np.all(np.abs(gradient[valid]).sum(axis=-1) > 0)


def test_all_ignored_is_zero_with_finite_gradient():
    labels = jnp.full((1, 4, 4), 255, jnp.uint8)

    def loss(fine):
        count = count_valid(labels, 255)
        return segmentation_loss(Outputs(fine=fine), labels, WEIGHTS, 255, count)[0]

    value, gradient = jax.value_and_grad(loss)(jnp.ones((1, 4, 4, 3)))
    assert value == 0
    assert np.all(gradient == 0)


def test_terms_and_weights():
    rng, labels = example()
    scores = {
        name: rng.normal(size=(*labels.shape, channels)).astype(np.float32)
        for name, channels in (("fine", 3), ("coarse", 3), ("boundary", 2), ("fine_boundary", 2))
    }
    valid = labels != 255
    count = count_valid(jnp.asarray(labels), 255)
    total, terms = segmentation_loss(
        Outputs(**jax.tree.map(jnp.asarray, scores)),
        jnp.asarray(labels),
        WEIGHTS,
        255,
        count,
        boundary_loss=BoundaryLoss("pixels"),
    )
    boundaries = np.stack([np.asarray(ops.boundary_target(jnp.asarray(x))) for x in labels])
    expected = {
        name: nll(logits, boundaries.astype(int) if "boundary" in name else labels, valid)
        / valid.sum()
        for name, logits in scores.items()
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5)
    np.testing.assert_allclose(
        total, sum(WEIGHTS[name] * value for name, value in expected.items()), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("column", "border", "pixels"), [(255, False, (4, 4, 2)), (1, True, (4, 4, 4))]
)
def test_cells_learn_whether_they_hold_a_boundary(column, border, pixels):
    """2 x 3 cells of 2 x 2 pixels; where the column between is ignored, no pixel is at a border."""
    labels = jnp.array([[[0, 0, 0, 0, column, 1]] * 4], jnp.uint8)
    scores = np.random.default_rng(4).normal(size=(1, 2, 3, 2)).astype(np.float32)
    outputs = Outputs(fine=jnp.zeros((1, 2, 3, 2)), boundary=jnp.asarray(scores))
    _, terms = segmentation_loss(outputs, labels, WEIGHTS, 255, count_valid(labels, 255))
    probabilities = np.exp(scores[0]) / np.exp(scores[0]).sum(-1, keepdims=True)
    right = probabilities[..., 0].copy()
    if border:
        right[:, 1:] = probabilities[:, 1:, 1]
    expected = -(np.array(pixels) * np.log(right)).sum() / (2 * sum(pixels))
    np.testing.assert_allclose(terms["boundary"], expected, rtol=1e-5)


@pytest.mark.parametrize("target", ["cells", "pixels"])
def test_scores_of_cells_that_fill_the_labels_are_resized_as_pytorch_does(target):
    """3 x 2 cells of 4 x 6 pixels; with aligned corners the first row of cells has 3 pixels."""
    rng = np.random.default_rng(11)
    labels = rng.integers(2, size=(2, 6, 2)).repeat(2, 1).repeat(6, 2).astype(np.uint8)
    fine, boundary = (rng.normal(size=(2, 3, 2, n)).astype(np.float32) for n in (3, 2))
    found = segmentation_loss(
        Outputs(fine=jnp.asarray(fine), boundary=jnp.asarray(boundary)),
        *(jnp.asarray(labels), WEIGHTS, 255, jnp.float32(labels.size)),
        boundary_loss=BoundaryLoss(target),
        align_corners=False,
    )[1]

    def resized(maps):
        tensor = torch.from_numpy(maps.transpose(0, 3, 1, 2).copy())
        return torch.nn.functional.interpolate(tensor, labels.shape[1:], mode="bilinear")

    radius = 1.0 if target == "cells" else 2.0
    truth = np.stack([np.asarray(ops.boundary_target(x, radius=radius)) for x in labels])
    scores = resized(boundary)
    if target == "cells":  # with 24 pixels each
        truth = truth.reshape(2, 3, 4, 2, 6).any(axis=(2, 4))
        scores = torch.from_numpy(boundary.transpose(0, 3, 1, 2).copy())
        assert 0 < truth.sum() < truth.size
    cross_entropy = torch.nn.functional.cross_entropy
    expected = cross_entropy(scores, torch.from_numpy(truth).long())
    np.testing.assert_allclose(found["boundary"], expected, rtol=1e-5)
    expected = cross_entropy(resized(fine), torch.from_numpy(labels).long())
    np.testing.assert_allclose(found["fine"], expected, rtol=1e-5)


@pytest.mark.parametrize("target", ["cells", "pixels"])
def test_boundary_losses_weigh_and_focus(target):
    rng = np.random.default_rng(5)
    labels = jnp.asarray(rng.integers(2, size=(2, 4, 6)), jnp.uint8).at[:, :, :2].set(0)
    scores = rng.normal(size=(2, 4, 6, 2)).astype(np.float32)
    found = BoundaryLoss(target, positive_weight=3.0, focus=2.0).sum(
        jnp.asarray(scores), labels, 255
    )
    # On a grid of the labels' own size a cell is a pixel; the band of "pixels" has radius 2.
    radius = 1.0 if target == "cells" else 2.0
    truth = np.stack([np.asarray(ops.boundary_target(x, radius=radius)) for x in labels])
    right = np.take_along_axis(
        np.exp(scores) / np.exp(scores).sum(-1, keepdims=True), truth[..., None].astype(int), -1
    )[..., 0]
    expected = (np.where(truth, 3.0, 1.0) * (1 - right) ** 2 * -np.log(right)).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_focused_loss_of_a_sure_and_right_score_has_a_finite_gradient():
    scores = jnp.array([[[[200.0, -200.0]]]])
    labels = jnp.zeros((1, 1, 1), jnp.uint8)
    gradient = jax.grad(lambda x: BoundaryLoss(focus=0.5).sum(x, labels, 255))(scores)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"target": "lines"}, "boundary_target is 'lines'; choose one of"),
        ({"positive_weight": -1.0}, "boundary_positive_weight is -1.0; choose a number from 0"),
        ({"focus": float("nan")}, "boundary_focus is nan; choose a number from 0"),
    ],
)
def test_boundary_loss_refuses_what_is_no_setting(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        BoundaryLoss(**settings)


def test_branches_learn_the_categories_as_terms_of_their_own():
    rng, labels = example()
    fine, one, other = rng.normal(size=(3, *labels.shape, 3)).astype(np.float32)
    branches = {"position": jnp.asarray(one), "channel": jnp.asarray(other)}
    outputs = Outputs(fine=jnp.asarray(fine), branches=branches)
    count = count_valid(jnp.asarray(labels), 255)
    class_weights = (0.5, 3.0, 1.0)
    total, terms = segmentation_loss(
        outputs, jnp.asarray(labels), WEIGHTS | {"branches": 0.7}, 255, count, class_weights
    )
    valid = labels != 255
    expected = {
        name: nll(logits, labels, valid, class_weights) / valid.sum()
        for name, logits in (("fine", fine), ("position", one), ("channel", other))
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5)
    weighted = expected["fine"] + 0.7 * (expected["position"] + expected["channel"])
    np.testing.assert_allclose(total, weighted, rtol=1e-5)


def test_class_weights_scale_the_losses_of_their_categories():
    rng, labels = example()
    weights = (0.5, 3.0, 0.0)
    scores = rng.normal(size=(2, *labels.shape, 3)).astype(np.float32)
    boundary = rng.normal(size=(*labels.shape, 2)).astype(np.float32)
    fine, coarse, edges = (jnp.asarray(x) for x in (*scores, boundary))
    outputs = Outputs(fine=fine, coarse=coarse, boundary=edges)
    count = count_valid(jnp.asarray(labels), 255)
    _, plain = segmentation_loss(outputs, jnp.asarray(labels), WEIGHTS, 255, count)
    _, terms = segmentation_loss(outputs, jnp.asarray(labels), WEIGHTS, 255, count, weights)
    valid = labels != 255
    for name, logits in zip(("fine", "coarse"), scores, strict=True):
        expected = nll(logits, labels, valid, weights) / valid.sum()
        np.testing.assert_allclose(terms[name], expected, rtol=1e-5)
    assert terms["boundary"] == plain["boundary"]


def test_scores_are_resized_to_the_labels():
    """A 2 x 2 map whose corners keep their place: the corner pixels have the map's own loss."""
    fine = np.random.default_rng(3).normal(size=(1, 2, 2, 3)).astype(np.float32)
    labels = np.full((1, 5, 7), 255, np.uint8)
    labels[0, ::4, ::6] = [[0, 1], [2, 0]]
    _, terms = segmentation_loss(
        Outputs(fine=jnp.asarray(fine)), jnp.asarray(labels), WEIGHTS, 255, jnp.float32(4)
    )
    corners = np.array([[[0, 1], [2, 0]]])
    np.testing.assert_allclose(
        terms["fine"], nll(fine, corners, np.ones_like(corners)) / 4, rtol=1e-5
    )


def test_parts_with_the_whole_count_add_up():
    rng, labels = example()
    fine = jnp.asarray(rng.normal(size=(*labels.shape, 3)), jnp.float32)
    labels = jnp.asarray(labels)
    count = count_valid(labels, 255)
    whole, _ = segmentation_loss(Outputs(fine=fine), labels, WEIGHTS, 255, count)
    parts = [
        segmentation_loss(Outputs(fine=fine[i : i + 1]), labels[i : i + 1], WEIGHTS, 255, count)[0]
        for i in range(2)
    ]
    np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=1e-6)


def choquet_integral(probabilities, labels):
    """Mean over the labels' categories of the integral over t of 1 - IoU with errors >= t wrong."""
    losses = []
    for category in np.unique(labels[labels != 255]):
        pixels = [
            (abs((label == category) - p), label == category)
            for p, label in zip(probabilities[..., category].ravel(), labels.ravel(), strict=True)
            if label != 255
        ]
        levels = sorted({error for error, _ in pixels} | {0.0})
        size = sum(hit for _, hit in pixels)
        loss = 0.0
        for below, level in itertools.pairwise(levels):
            missed = sum(hit for error, hit in pixels if error >= level)
            wrong = sum(not hit for error, hit in pixels if error >= level)
            loss += (level - below) * (1 - (size - missed) / (size + wrong))
        losses.append(loss)
    return np.mean(losses)


def test_lovasz_softmax_is_the_choquet_integral_of_each_image():
    rng, labels = example(seed=6)
    labels[1][labels[1] == 2] = 255  # a category that only the first image has
    logits = rng.normal(scale=2.0, size=(*labels.shape, 3)).astype(np.float32)
    found = lovasz_softmax_sum(
        jnp.asarray(logits), jnp.asarray(labels, jnp.int32), jnp.asarray(labels != 255)
    )
    exponentials = np.exp(logits.astype(np.float64))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    expected = sum(
        (image != 255).sum() * choquet_integral(p, image)
        for p, image in zip(probabilities, labels, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_lovasz_softmax_weighs_the_errors_of_the_docstring():
    """Errors 0.9, 0.6, 0.2 count 1/2, 1/6, 1/3 for category 0, and 1/2, 1/2, 0 for category 1."""
    probabilities = jnp.array([[[[0.1, 0.9], [0.6, 0.4], [0.8, 0.2]]]])
    labels = jnp.array([[[0, 1, 0]]])
    found = lovasz_softmax_sum(jnp.log(probabilities), labels, labels < 2)
    expected = ((0.9 / 2 + 0.6 / 6 + 0.2 / 3) + (0.9 / 2 + 0.6 / 2)) / 2
    np.testing.assert_allclose(found / 3, expected, rtol=1e-6)


def test_lovasz_softmax_of_sure_scores_is_one_minus_iou():
    """Three of four pixels of category 0 are found, and both of category 1: IoU 3/4 and 2/3."""
    labels = jnp.array([[[0, 0, 0, 0, 1, 1, 255]]])
    predicted = jnp.array([[[0, 0, 0, 1, 1, 1, 0]]])
    logits = 1e3 * jax.nn.one_hot(predicted, 3)
    found = lovasz_softmax_sum(logits, labels, labels != 255)
    np.testing.assert_allclose(found / 6, 1 - (3 / 4 + 2 / 3) / 2, rtol=1e-6)


def test_lovasz_softmax_has_the_gradient_of_finite_differences():
    rng, labels = example(seed=7, shape=(1, 3, 4))
    valid = jnp.asarray(labels != 255)

    def loss(logits):
        return lovasz_softmax_sum(logits, jnp.asarray(labels, jnp.int32), valid)

    logits = jnp.asarray(rng.normal(size=(*labels.shape, 3)), jnp.float32)
    gradient = jax.jit(jax.grad(loss))(logits)
    assert np.all(gradient[~valid] == 0)
    for _ in range(5):
        direction = jnp.asarray(rng.normal(size=logits.shape), jnp.float32)
        step = 1e-3 * direction
        slope = (loss(logits + step) - loss(logits - step)) / 2e-3
        np.testing.assert_allclose(jnp.vdot(gradient, direction), slope, rtol=2e-2, atol=2e-3)


def test_lovasz_softmax_is_a_term_where_it_has_a_weight():
    rng, labels = example(seed=8)
    fine = jnp.asarray(rng.normal(size=(2, 3, 3, 3)), jnp.float32)
    valid = jnp.asarray(labels != 255)
    count = count_valid(jnp.asarray(labels), 255)
    plain, without = segmentation_loss(Outputs(fine), jnp.asarray(labels), WEIGHTS, 255, count)
    weights = WEIGHTS | {"lovasz": 0.5}
    total, terms = segmentation_loss(Outputs(fine), jnp.asarray(labels), weights, 255, count)
    full = ops.resize_bilinear(fine, labels.shape[1:])
    expected = lovasz_softmax_sum(full, jnp.asarray(labels, jnp.int32), valid) / count
    assert terms.keys() - without.keys() == {"lovasz"}
    np.testing.assert_allclose(terms["lovasz"], expected, rtol=1e-6)
    np.testing.assert_allclose(total, plain + 0.5 * expected, rtol=1e-6)
    # Separate images, as on devices or in microbatches, add up to the batch.
    parts = [
        segmentation_loss(
            Outputs(fine[i : i + 1]), jnp.asarray(labels[i : i + 1]), weights, 255, count
        )
        for i in range(2)
    ]
    np.testing.assert_allclose(sum(part[0] for part in parts), total, rtol=1e-5)
    ignored = jnp.full((2, 5, 6), 255, jnp.uint8)
    zero, gradient = jax.value_and_grad(
        lambda x: segmentation_loss(Outputs(x), ignored, weights, 255, jnp.float32(0))[0]
    )(fine)
    assert zero == 0
    assert np.all(gradient == 0)
