import math

import jax
import numpy as np
import pytest
import sklearn.metrics

from ranet_jax.evaluation.metrics import SegmentationScores, confusion_matrix


def brute_force_confusion(labels, predictions, num_classes, ignore_label, mask):
    counts = [[0] * num_classes for _ in range(num_classes)]
    for image in range(labels.shape[0]):
        if not mask[image]:
            continue
        for truth, chosen in zip(labels[image].flat, predictions[image].flat, strict=True):
            if truth != ignore_label:
                counts[truth][chosen] += 1
    return np.array(counts)


def test_confusion_matrix_matches_the_docstring_table():
    labels = np.array([[[0, 0, 0, 1, 1, 255]]], np.uint8)
    predictions = np.array([[[0, 0, 1, 1, 0, 1]]], np.uint8)
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, 2), [[2, 1], [1, 1]])


@pytest.mark.parametrize("ignore_label", [255, 4])
@pytest.mark.parametrize("label_type", [np.uint8, np.int32])
def test_confusion_matrix_matches_brute_force_eager_and_jit(ignore_label, label_type):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, (3, 7, 5)).astype(label_type)
    labels[generator.random(labels.shape) < 0.2] = ignore_label
    predictions = generator.integers(0, 4, labels.shape).astype(np.uint8)
    mask = np.array([True, False, True])
    expected = brute_force_confusion(labels, predictions, 4, ignore_label, mask)
    eager = confusion_matrix(labels, predictions, 4, ignore_label, mask)
    jitted = jax.jit(confusion_matrix, static_argnums=(2, 3))(
        labels, predictions, 4, ignore_label, mask
    )
    assert eager.dtype == np.int32
    np.testing.assert_array_equal(eager, expected)
    np.testing.assert_array_equal(jitted, expected)


@pytest.mark.slow
def test_masking_an_image_equals_leaving_it_out():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, (4, 6, 6)).astype(np.uint8)
    predictions = generator.integers(0, 3, labels.shape).astype(np.uint8)
    mask = np.array([True, True, False, False])
    masked = confusion_matrix(labels, predictions, 3, mask=mask)
    deleted = confusion_matrix(labels[:2], predictions[:2], 3)
    np.testing.assert_array_equal(masked, deleted)


def test_everything_ignored_counts_nothing():
    labels = np.full((1, 4, 4), 255, np.uint8)
    counts = confusion_matrix(labels, np.zeros((1, 4, 4), np.uint8), 3)
    assert not np.asarray(counts).any()


def test_scores_of_a_hand_made_table():
    # Class 2 occurs nowhere; class 3 is predicted once and never the truth.
    confusion = np.array(
        [[6, 2, 0, 0], [1, 3, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
        np.int64,
    )
    scores = SegmentationScores(confusion)
    iou = scores.class_iou
    assert iou[0] == pytest.approx(6 / 9)
    assert iou[1] == pytest.approx(3 / 7)
    assert math.isnan(iou[2])
    assert iou[3] == 0.0
    assert scores.miou == pytest.approx((6 / 9 + 3 / 7 + 0) / 3)
    assert scores.pixel_accuracy == pytest.approx(9 / 13)
    assert scores.mean_accuracy == pytest.approx((6 / 8 + 3 / 5) / 2)
    assert scores.labelled.tolist() == [8, 5, 0, 0]
    assert scores.predicted.tolist() == [7, 5, 0, 1]
    assert scores.correct.tolist() == [6, 3, 0, 0]


def test_perfect_prediction_scores_one():
    scores = SegmentationScores(np.diag(np.array([3, 0, 5], np.int64)))
    assert (scores.miou, scores.pixel_accuracy, scores.mean_accuracy) == (1.0, 1.0, 1.0)


def test_no_pixels_score_nan():
    scores = SegmentationScores(np.zeros((2, 2), np.int64))
    values = (scores.miou, scores.pixel_accuracy, scores.mean_accuracy)
    assert all(math.isnan(value) for value in values)


def test_counts_beyond_int32_stay_exact():
    pixels = 2**40 + 1
    scores = SegmentationScores(np.array([[pixels, 1], [0, pixels]], np.int64))
    assert int(scores.confusion.sum()) == 2 * pixels + 1
    assert scores.miou == pytest.approx(pixels / (pixels + 1), abs=1e-15)


def test_scores_equal_scikit_learn_s():
    rng = np.random.default_rng(5)
    truth = rng.choice([0, 1, 2, 3, 255], (3, 40, 50), p=[0.4, 0.3, 0.15, 0.1, 0.05])
    chosen = np.where(rng.random(truth.shape) < 0.6, truth % 5, rng.integers(0, 5, truth.shape))
    found = confusion_matrix(truth.astype(np.uint8), chosen.astype(np.int32), 5)
    counted = truth != 255
    pair = truth[counted], chosen[counted]
    expected = sklearn.metrics.confusion_matrix(*pair, labels=range(5))
    np.testing.assert_array_equal(found, expected)
    scores = SegmentationScores(np.asarray(found, np.int64))
    jaccard = sklearn.metrics.jaccard_score(*pair, labels=range(5), average=None)
    np.testing.assert_allclose(scores.class_iou, jaccard, rtol=1e-12)
    assert scores.pixel_accuracy == pytest.approx(sklearn.metrics.accuracy_score(*pair))
    recall = sklearn.metrics.recall_score(*pair, labels=range(4), average="macro")
    assert scores.mean_accuracy == pytest.approx(recall)
