"""Drawn arguments: their dtypes, ranges, and the cases that they promise."""

import numpy as np
import pytest

from ranet_jax.testing import inputs


@pytest.mark.parametrize("draw", inputs.MAPS)
@pytest.mark.parametrize("shape", [(1, 1), (8, 5)])
def test_maps_are_probabilities(draw, shape):
    boundary, probabilities = draw(0, shape, 4)
    assert boundary.shape == shape
    assert probabilities.shape == (*shape, 4)
    assert boundary.dtype == probabilities.dtype == np.float32
    assert boundary.min() >= 0 and boundary.max() <= 1
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(boundary, draw(0, shape, 4).boundary)


def test_each_kind_of_maps_is_what_it_says():
    shape = (9, 11)
    distinct = {
        draw.__name__: len(np.unique(draw(0, shape).probabilities.reshape(-1, 3), axis=0))
        for draw in inputs.MAPS
    }
    assert distinct["smooth_maps"] == 99
    assert distinct["piecewise_maps"] == 9
    assert distinct["checkerboard_maps"] == distinct["degenerate_maps"] == 2
    assert distinct["uniform_maps"] == 1
    assert set(np.unique(inputs.degenerate_maps(0, shape).boundary)) == {0, 1}


def test_distributions_sum_to_one_however_sharp():
    for sharpness in (0.1, 2.0, 1e3):
        drawn = inputs.distributions(0, (2, 4), 5, sharpness)
        assert drawn.shape == (2, 4, 5)
        np.testing.assert_allclose(drawn.sum(axis=-1), 1, rtol=1e-6)
    assert np.median(drawn.max(axis=-1)) == 1


def test_the_first_of_several_masks_is_empty():
    masks = inputs.masks(0, 5, 40)
    assert not masks[0].any()
    assert masks[1:].any(axis=1).all() and not masks[1:].all(axis=1).any()
    assert inputs.masks(0, 1, 40).any()


def test_tied_scores_have_equals():
    scores = inputs.tied(0, (30,), 4)
    assert set(np.unique(scores)) == {0, np.float32(1 / 3), np.float32(2 / 3), 1}
    assert (inputs.tied(0, (5,), 1) == 0).all()


def test_regions_are_labelled_by_their_smallest_pixel():
    labels = inputs.regions(0, 40, 6)
    assert labels.dtype == np.int32
    for label in np.unique(labels):
        assert np.flatnonzero(labels == label)[0] == label
    assert len(np.unique(labels)) == 6


def test_other_seeds_draw_other_numbers():
    for draw in (inputs.normal, inputs.unit):
        np.testing.assert_array_equal(draw(3, (4,)), draw(3, (4,)))
        assert (draw(3, (4,)) != draw(4, (4,))).all()
