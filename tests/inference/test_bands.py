"""Images read and segmented in bands of rows, against images that are whole in memory."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from helpers.fakes import DATASET, brightest_channel_model, primary_image, random_variables
from helpers.small_models import SMALL
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.inference import bands
from ranet_jax.inference.bands import probability_rows
from ranet_jax.inference.model import Model
from ranet_jax.inference.probabilities import predict_probabilities
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import build_model
from ranet_jax.pipeline.images import ImageRows

pytestmark = pytest.mark.slow

SLIDE = InferenceSettings(mode="slide", crop_size=(8, 12))
SETTINGS = {
    "usual": SLIDE,
    "mirrored": dataclasses.replace(SLIDE, flip=True),
    "one by one": dataclasses.replace(SLIDE, window_batch=1),
    "groups over several rows of windows": dataclasses.replace(SLIDE, window_batch=7),
    "side by side": dataclasses.replace(SLIDE, stride_ratio=1.0),
    "rows under many windows": dataclasses.replace(SLIDE, stride_ratio=0.2, flip=True),
    "whole mode": dataclasses.replace(SLIDE, mode="whole"),
}
SHAPES = [(1, 1), (8, 12), (5, 40), (31, 9), (29, 37)]


def blocks_of(image, heights=(1, 5, 2, 9)):
    """An image as blocks of uneven heights."""
    ends = itertools.accumulate(itertools.cycle(heights))
    inside = list(itertools.takewhile(lambda end: end < len(image), ends))
    return ImageRows(*image.shape[:2], iter(np.split(image, inside)))


def ramp(windows):
    """Probabilities that depend on where in its window a pixel lies."""
    _, height, width, _ = windows.shape
    rows, columns = np.indices((height, width))
    place = np.sin(0.37 * rows + 0.11 * columns).astype(np.float32)
    return {"fine": windows * place[None, ..., None]}


def softmaxed(windows):
    return predict_probabilities(ramp, windows, InferenceSettings())["fine"]


def normalize(pixels):
    return pixels.astype(np.float32) / np.float32(100)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SETTINGS)
def test_bands_give_the_numbers_of_the_whole_image(name, shape, monkeypatch):
    monkeypatch.setattr(bands, "BLOCK_VALUES", 3 * 37 * 2)  # two or more rows in a block
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    whole = dataclasses.replace(SETTINGS[name], mode="slide")
    expected = predict_probabilities(ramp, jnp.asarray(normalize(image)[None]), whole)["fine"][0]
    found = list(probability_rows(softmaxed, blocks_of(image), normalize, SETTINGS[name]))
    np.testing.assert_array_equal(np.concatenate(found), expected)
    assert len(found) > 1 or shape[0] < 9


@pytest.fixture(scope="module")
def network():
    config = default_config()
    config.model.update(SMALL | {"context": "none"})
    config.eval.update(mode="slide", crop_size=(33, 41))
    module = build_model(config, DATASET.num_classes)
    return Model(config, module, random_variables(module), DATASET)


@pytest.mark.parametrize(
    ("shape", "flip", "align_corners"),
    [((70, 95), False, True), ((51, 88), True, True), ((20, 30), True, False)],
)
def test_a_network_gives_the_labels_of_the_ordinary_prediction(network, shape, flip, align_corners):
    changed = {"flip": flip, "align_corners": align_corners}
    network.settings = dataclasses.replace(network.settings, **changed)
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    expected = network.predict(image, with_regions=False).labels
    found = np.concatenate(list(network.predict_rows(blocks_of(image))))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_a_hundred_sizes_compile_two_programs():
    traces = []
    model = brightest_channel_model(traces.append)
    model.settings = SLIDE
    for shape in itertools.product(range(3, 13), range(5, 15)):
        image = primary_image(*shape)
        labels = np.concatenate(list(model.predict_rows(ImageRows.of_array(image))))
        assert labels.shape == image.shape[:2]
    assert sorted(traces) == [(1, 8, 12, 3), (4, 8, 12, 3)]


def test_no_more_rows_are_asked_for_than_a_window_needs():
    image, asked = primary_image(80, 15), []

    def blocks():
        for number, row in enumerate(np.split(image, 80)):
            asked.append(number)
            yield row

    model = brightest_channel_model()
    model.settings = dataclasses.replace(SLIDE, window_batch=1)
    labels = model.predict_rows(ImageRows(80, 15, blocks()))
    assert next(labels).shape == (6, 15)
    assert len(asked) == 8 + 6  # a window, and the stride of the one that ended the block


def test_scales_are_refused_by_name():
    model = brightest_channel_model()
    model.settings = dataclasses.replace(SLIDE, scales=(0.5, 1.0))
    rows = ImageRows.of_array(primary_image(4, 4), "far.tif")
    with pytest.raises(UserError, match=r"^far\.tif .* set config\.eval\.scales to \(1\.0,\)\.$"):
        model.predict_rows(rows)


def test_an_image_that_needs_too_much_memory_is_named():
    model = brightest_channel_model()

    def forward(variables, images):
        raise MemoryError

    model.forward = forward
    labels = model.predict_rows(ImageRows.of_array(primary_image(4, 6), "far.tif"))
    with pytest.raises(UserError, match=r"^far\.tif of 6 x 4 pixels needs more memory"):
        next(labels)
