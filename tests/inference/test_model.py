import dataclasses
import math
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from helpers.fakes import DATASET, brightest_channel_model, primary_image, random_variables
from helpers.fields import another_value
from helpers.score_maps import interpolate, softmax
from ranet_jax.config import default_config, set_field
from ranet_jax.config.declarations import FIELDS
from ranet_jax.errors import UserError
from ranet_jax.inference import model as inference
from ranet_jax.inference.model import Model
from ranet_jax.models import build_model

pytestmark = pytest.mark.slow


def test_predict_gives_labels_at_the_images_resolution():
    model = brightest_channel_model()
    image = np.zeros((5, 7, 3), np.uint8)
    image[:, :, 2] = 10
    image[0, 0] = (30, 0, 0)
    result = model.predict(image)
    fine = interpolate(image[::2, ::2].astype(np.float64), (5, 7))
    np.testing.assert_allclose(result.probabilities, softmax(fine), atol=1e-5)
    np.testing.assert_array_equal(result.labels, fine.argmax(-1))
    np.testing.assert_array_equal(result.coarse, fine[..., ::-1].argmax(-1))
    np.testing.assert_allclose(result.boundary, softmax(fine[..., :2])[..., 1], atol=1e-5)
    assert result.labels.dtype == result.coarse.dtype == np.uint8
    assert result.regions.labels.tolist() == 3 * [[0, 0, 2, 2]]
    assert result.regions.representatives.roots.tolist() == [0, 2]


def test_regions_come_from_the_whole_image_whatever_the_settings():
    model = brightest_channel_model()
    image = primary_image(9, 17)
    expected = model.predict(image).regions.labels
    model.settings = dataclasses.replace(model.settings, mode="slide", crop_size=(8, 8), flip=True)
    result = model.predict(image)
    np.testing.assert_array_equal(result.regions.labels, expected)
    assert result.labels.shape == (9, 17)
    assert model.predict(image, with_regions=False).regions is None


def test_grey_and_transparent_images_are_converted():
    model = brightest_channel_model()
    rgb = primary_image(6, 6)
    alpha = np.full((6, 6, 1), 7, np.uint8)
    np.testing.assert_array_equal(
        model.predict(np.concatenate([rgb, alpha], -1)).probabilities,
        model.predict(rgb).probabilities,
    )
    grey = rgb[..., 0]
    expected = model.predict(np.stack([grey] * 3, -1)).probabilities
    np.testing.assert_array_equal(model.predict(grey).probabilities, expected)
    np.testing.assert_array_equal(model.predict(grey[..., None]).probabilities, expected)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((1, 4, 4, 2), np.uint8),
        np.zeros((1, 1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4,), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)
def test_other_arrays_are_refused(image):
    with pytest.raises(UserError, match="uint8"):
        brightest_channel_model().predict(image)
    with pytest.raises(UserError, match=r"^image\[1\] .* uint8"):
        brightest_channel_model().predict([primary_image(4, 4), image])


def test_the_image_is_normalised_as_the_config_says():
    model = brightest_channel_model()
    config = model.config.copy_and_resolve_references()
    config.data.mean, config.data.std = (10.0, 20.0, 30.0), (1.0, 2.0, 4.0)
    config.data.channel_order = "bgr"
    shifted = Model(config, model.module, model.variables, DATASET)
    image = np.tile(np.array([12, 22, 42], np.uint8), (1, 1, 1))
    expected = softmax(np.array([(42 - 30) / 4, (22 - 20) / 2, 12 - 10]))
    np.testing.assert_allclose(shifted.predict(image).probabilities[0, 0], expected, atol=1e-6)


def test_a_model_compiles_once_for_a_size():
    traces = []
    model = brightest_channel_model(traces.append)
    for seed in range(3):
        model.predict(primary_image(8, 8, seed))
    assert traces == [(1, 8, 8, 3)]


def tiny_config():
    config = default_config()
    config.data.crop_size = (33, 33)
    config.model.update(
        backbone="resnet18", stages=3, width=8, channels=16, num_regions=4, per_region=2
    )
    return config


@pytest.fixture(scope="module")
def tiny_model():
    config = tiny_config()
    module = build_model(config, DATASET.num_classes)
    return Model(config, module, random_variables(module), DATASET)


@pytest.mark.parametrize("shape", [(33, 49), (1, 1)])
def test_a_real_network_predicts_images_of_any_size(tiny_model, shape):
    result = tiny_model.predict(primary_image(*shape))
    grid = tuple(math.ceil(size / 8) for size in shape)
    assert result.labels.shape == result.coarse.shape == result.boundary.shape == shape
    np.testing.assert_allclose(result.probabilities.sum(-1), np.ones(shape), atol=1e-5)
    assert result.regions.labels.shape == result.regions.score.shape == grid
    representatives = result.regions.representatives
    assert representatives.indices.shape == representatives.valid.shape == (4, 2)
    roots = representatives.roots[representatives.roots >= 0]
    assert set(roots.tolist()) <= set(result.regions.labels.ravel().tolist())


def assert_same(prediction, expected):
    np.testing.assert_array_equal(prediction.labels, expected.labels)
    np.testing.assert_array_equal(prediction.coarse, expected.coarse)
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(prediction.boundary, expected.boundary, atol=1e-6)
    np.testing.assert_array_equal(prediction.regions.labels, expected.regions.labels)
    np.testing.assert_allclose(prediction.regions.score, expected.regions.score, atol=1e-5)
    jax.tree.map(
        np.testing.assert_array_equal,
        prediction.regions.representatives,
        expected.regions.representatives,
    )


@pytest.mark.parametrize(
    ("collect", "settings"),
    [
        (np.stack, {}),
        *(pytest.param(collect, {}, marks=pytest.mark.long) for collect in (list, tuple, iter)),
        pytest.param(np.stack, {"flip": True}, marks=pytest.mark.long),
    ],
)
def test_several_images_are_predicted_as_one_by_one(tiny_model, collect, settings):
    model = Model(tiny_model.config, tiny_model.module, tiny_model.variables, DATASET)
    model.forward = tiny_model.forward  # compiled already
    model.settings = dataclasses.replace(model.settings, **settings)
    images = [primary_image(17, 17, seed) for seed in range(3)]
    if collect is not np.stack:
        images.append(primary_image(9, 17))
    predictions = model.predict(collect(images))
    assert isinstance(predictions, Iterator if collect is iter else list)
    for prediction, image in zip(predictions, images, strict=True):
        assert_same(prediction, model.predict(image))


def test_consecutive_images_of_one_size_share_passes_of_bounded_size(monkeypatch):
    traces = []
    model = brightest_channel_model(traces.append)
    monkeypatch.setattr(inference, "GROUP_IMAGES", 3)
    monkeypatch.setattr(inference, "GROUP_PIXELS", 250)
    sizes = [8, 8, 8, 8, 9, 8, 12, 12, 20]
    predictions = model.predict(primary_image(size, size) for size in sizes)
    assert traces == [], "nothing is predicted before it is asked for"
    assert [len(prediction.labels) for prediction in predictions] == sizes
    # The single images of 8 and 12 pixels are compiled once each.
    passes = [(3, 8), (1, 8), (1, 9), (1, 12), (1, 20)]
    assert traces == [(count, size, size, 3) for count, size in passes]


def test_a_batch_is_one_pass():
    traces = []
    model = brightest_channel_model(traces.append)
    assert len(model.predict(np.zeros((20, 4, 5, 3), np.uint8))) == 20
    assert traces == [(20, 4, 5, 3)]
    assert model.predict(np.zeros((0, 4, 5, 3), np.uint8)) == model.predict([]) == []


def test_a_saved_model_loads_as_the_same_model(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "model")

    def configure(config):
        config.eval.flip = True
        return config

    loaded = inference.load(tmp_path / "model")
    image = primary_image(33, 49)
    np.testing.assert_array_equal(
        loaded.predict(image).probabilities, tiny_model.predict(image).probabilities
    )
    assert loaded.dataset == DATASET
    assert inference.load(tmp_path / "model", configure).settings.flip


def test_a_loaded_network_keeps_what_its_weights_belong_to(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "model")
    names = [name for name, field in FIELDS.items() if field.effect == "weights"]
    assert "model.channels" in names

    def configure(config):
        set_field(config, name, another_value(FIELDS[name]))
        return config

    for name in names:
        with pytest.raises(UserError, match=f"config.{name} cannot be set here"):
            inference.load(tmp_path / "model", configure)


def test_loading_from_nowhere_is_refused(tmp_path):
    with pytest.raises(UserError, match="checkpoint"):
        inference.load(tmp_path / "nothing")


def test_a_network_without_context_has_no_regions():
    config = tiny_config()
    config.model.context = "none"
    module = build_model(config, DATASET.num_classes)
    result = Model(config, module, random_variables(module), DATASET).predict(primary_image(20, 20))
    assert result.regions is None
    assert result.coarse is None
    assert result.boundary is None
