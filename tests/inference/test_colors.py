"""Colours that people can tell apart."""

import numpy as np
import pytest

from ranet_data.coco_stuff.labels import PALETTE as COCO_STUFF
from ranet_jax.inference.colors import LEAST_DISTANCE, cielab, distinguishable
from ranet_jax.pipeline.metadata import default_color

VOC = tuple(default_color(number) for number in range(256))


def least_distance(palette):
    lab = cielab(np.asarray(palette, float))
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distances[np.triu_indices(len(lab), 1)].min(initial=np.inf)


@pytest.mark.parametrize(
    "palette",
    [
        ((10, 20, 30),) * 171,
        ((0, 0, 0), (0, 0, 1), (255, 255, 255), (255, 255, 254)),
        tuple((n, n, n) for n in range(256)),
        COCO_STUFF,
        VOC,
    ],
    ids=["one colour", "two pairs", "greys", "coco_stuff", "voc"],
)
def test_classes_that_look_alike_get_colours_of_their_own(palette):
    found = distinguishable(palette)
    assert len(found) == len(palette)
    assert least_distance(palette) < LEAST_DISTANCE <= least_distance(found)
    assert found[0] == tuple(palette[0])
    assert distinguishable(found) == found


@pytest.mark.parametrize("palette", [(), VOC[:1], VOC[:21], VOC[1:60]])
def test_palettes_that_differ_enough_stay(palette):
    assert distinguishable(palette) == palette
