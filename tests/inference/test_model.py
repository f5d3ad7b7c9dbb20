import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.fakes import DATASET, brightest_channel_model, primary_image, random_variables
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.inference import model as inference
from ranet_jax.inference.model import Model
from ranet_jax.inference.probabilities import InferenceSettings, predict_probabilities
from ranet_jax.inference.windows import window_starts
from ranet_jax.models import build_model


def identity(images):
    """Logits whose softmax is the image, and another map that mirrors its channels."""
    return {"fine": jnp.log(images + 1e-12), "coarse": jnp.log(images[..., ::-1] + 1e-12)}


def random_distributions(shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(3), shape).astype(np.float32)


def affine_distributions(height, width):
    """Distributions over three classes that are affine in both coordinates."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    first, second = 0.1 + 0.3 * y + 0.1 * x, 0.4 - 0.2 * y + 0.05 * x
    return np.stack([first, second, 1 - first - second], -1)[None].astype(np.float32)


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def interpolate(grid, shape):
    """Align-corners bilinear interpolation of [h, w, c], point by point in float64."""
    out = np.zeros((*shape, grid.shape[2]))
    for y, x in itertools.product(*map(range, shape)):
        place = []
        for index, size, cells in zip((y, x), shape, grid.shape[:2], strict=True):
            position = index * (cells - 1) / (size - 1) if size > 1 else 0.0
            low = min(int(position), cells - 1)
            place.append((low, min(low + 1, cells - 1), position - low))
        (y0, y1, v), (x0, x1, u) = place
        out[y, x] = (1 - v) * ((1 - u) * grid[y0, x0] + u * grid[y0, x1]) + v * (
            (1 - u) * grid[y1, x0] + u * grid[y1, x1]
        )
    return out


SLIDE = InferenceSettings(mode="slide", crop_size=(4, 6))
SETTINGS = {
    "whole": InferenceSettings(),
    "whole flipped": InferenceSettings(flip=True),
    "slide": SLIDE,
    "slide flipped": dataclasses.replace(SLIDE, flip=True),
    "slide one by one": dataclasses.replace(SLIDE, window_batch=1),
    "slide side by side": dataclasses.replace(SLIDE, stride_ratio=1.0),
    "slide closely": dataclasses.replace(SLIDE, stride_ratio=0.2, window_batch=7),
    "slide in a large crop": dataclasses.replace(SLIDE, crop_size=(20, 18)),
}


@pytest.mark.parametrize("shape", [(1, 1), (3, 11), (13, 10)])
@pytest.mark.parametrize("name", SETTINGS)
def test_an_identity_network_comes_back_unchanged(name, shape):
    images = random_distributions((2, *shape))
    result = predict_probabilities(identity, jnp.asarray(images), SETTINGS[name])
    np.testing.assert_allclose(result["fine"], images, atol=2e-6)
    np.testing.assert_allclose(result["coarse"], images[..., ::-1], atol=2e-6)
    assert result["fine"].dtype == np.float32


@pytest.mark.parametrize("name", ["whole flipped", "slide flipped", "slide in a large crop"])
def test_an_identity_network_keeps_an_affine_image_through_scales(name):
    images = affine_distributions(9, 7)
    settings = dataclasses.replace(SETTINGS[name], scales=(0.5, 1.0, 1.75))
    result = predict_probabilities(identity, jnp.asarray(images), settings)
    np.testing.assert_allclose(result["fine"], images, atol=5e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_constant_image_gives_a_constant_map(name):
    def strided(images):
        return {"fine": jnp.log(images[:, ::3, ::3] + 1e-12)}

    color = np.array([0.2, 0.7, 0.1], np.float32)
    images = np.tile(color, (1, 13, 10, 1))
    settings = dataclasses.replace(SETTINGS[name], scales=(0.75, 1.0), crop_size=(8, 6))
    result = predict_probabilities(strided, jnp.asarray(images), settings)
    np.testing.assert_allclose(result["fine"], images, atol=2e-6)


def test_scores_are_resized_with_corners_aligned_and_then_softmaxed():
    logits = np.random.default_rng(2).normal(0, 3, (1, 3, 4, 3)).astype(np.float32)
    result = predict_probabilities(
        lambda images: {"fine": jnp.asarray(logits)}, jnp.zeros((1, 7, 9, 3)), InferenceSettings()
    )
    expected = softmax(interpolate(logits[0].astype(np.float64), (7, 9)))
    np.testing.assert_allclose(result["fine"][0], expected, atol=2e-6)


def ramp(images):
    """Scores that depend on where in its input a pixel lies, differently in y and x."""
    _, height, width, _ = images.shape
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None, None]
    x = jnp.arange(width, dtype=jnp.float32)[None, None, :, None]
    return {"fine": images * jnp.array([1.0, 0.3, -0.5]).reshape(1, 1, 1, 3) * (x + 0.1 * y)}


def numpy_ramp(image):
    y, x = np.indices(image.shape[:2])
    return softmax(image * np.array([1.0, 0.3, -0.5]) * (x + 0.1 * y)[..., None])


def test_a_flip_averages_the_image_and_its_mirror_image_in_width():
    image = np.random.default_rng(3).normal(0, 1, (5, 6, 3)).astype(np.float32)
    result = predict_probabilities(ramp, jnp.asarray(image[None]), SETTINGS["whole flipped"])
    mirrored = numpy_ramp(image[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(result["fine"][0], (numpy_ramp(image) + mirrored) / 2, atol=2e-6)


@pytest.mark.parametrize("window_batch", [1, 2, 4, 5])
def test_windows_match_brute_force(window_batch):
    images = np.random.default_rng(4).normal(0, 1, (2, 11, 9, 3)).astype(np.float32)
    settings = dataclasses.replace(SLIDE, stride_ratio=2 / 3, window_batch=window_batch)
    total, cover = np.zeros(images.shape), np.zeros((1, 11, 9, 1))
    for top, left in itertools.product((0, 3, 6, 7), (0, 3)):  # ceil(4 * 2/3) and 6 * 2/3
        for index, image in enumerate(images):
            part = numpy_ramp(image[top : top + 4, left : left + 6])
            total[index, top : top + 4, left : left + 6] += part
        cover[:, top : top + 4, left : left + 6] += 1
    result = predict_probabilities(ramp, jnp.asarray(images), settings)
    np.testing.assert_allclose(result["fine"], total / cover, atol=2e-6)


def test_a_scale_sees_the_resized_image():
    image = np.random.default_rng(5).normal(0, 1, (6, 5, 3)).astype(np.float32)
    settings = InferenceSettings(scales=(1.0, 1.5))
    result = predict_probabilities(ramp, jnp.asarray(image[None]), settings)
    larger = numpy_ramp(interpolate(image.astype(np.float64), (9, 8)))  # 7.5 rounds up
    expected = (numpy_ramp(image) + interpolate(larger, (6, 5))) / 2
    np.testing.assert_allclose(result["fine"][0], expected, atol=5e-6)


def test_windows_of_images_of_any_size_need_two_compilations():
    traced = []

    @jax.jit
    def forward(images):
        traced.append(images.shape)
        return identity(images)

    for shape in ((4, 6), (3, 3), (9, 14), (11, 9), (16, 16)):
        predict_probabilities(forward, jnp.full((1, *shape, 3), 1 / 3), SLIDE)
    assert sorted(traced) == [(1, 4, 6, 3), (4, 4, 6, 3)]


def test_window_starts():
    assert window_starts(10, 4, 3 / 4) == [0, 3, 6]
    assert window_starts(11, 4, 3 / 4) == [0, 3, 6, 7]
    assert window_starts(769, 769, 2 / 3) == [0]
    assert window_starts(5, 8, 2 / 3) == [0]
    assert window_starts(2048, 769, 2 / 3) == [0, 513, 1026, 1279]
    for size, crop, ratio in itertools.product(range(1, 30), (1, 4, 7), (0.1, 2 / 3, 1.0)):
        starts = window_starts(size, crop, ratio)
        covered = {pixel for start in starts for pixel in range(start, start + crop)}
        assert covered >= set(range(size))
        assert starts == sorted(set(starts))
        assert max(starts) + crop <= max(size, crop)


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "crops"},
        {"scales": ()},
        {"scales": (1.0, 0.0)},
        {"crop_size": (0, 5)},
        {"stride_ratio": 0.0},
        {"stride_ratio": 1.5},
        {"window_batch": 0},
    ],
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(UserError, match=next(iter(fields))):
        InferenceSettings(**fields)


def test_settings_come_from_the_config():
    config = default_config()
    config.eval.mode = "slide"
    config.eval.scales = (0.5, 1.0)
    config.eval.crop_size = (65, 33)
    settings = InferenceSettings.from_config(config)
    assert (settings.mode, settings.scales, settings.crop_size) == ("slide", (0.5, 1.0), (65, 33))
    assert settings.stride_ratio == pytest.approx(2 / 3)
    assert not settings.single_pass
    assert InferenceSettings().single_pass


@pytest.mark.parametrize(
    "fields, seen",
    [
        ({}, 1024 * 2048),
        ({"output_stride": 16}, 2048 * 4096),
        ({"region_path": "dense"}, 320_000),
        ({"region_path": "dense", "output_stride": 16}, 1_280_000),
        ({"kernel_size": 3}, 320_000),
        ({"variant": "released"}, 320_000),
        ({"context": "nonlocal"}, 320_000),
        ({"context": "none"}, None),
        ({"context": "none", "region_path": "dense"}, None),
    ],
)
def test_whole_images_are_bounded_where_pixels_are_paired(fields, seen):
    """128 x 256 feature pixels of stride 8 see 1024 x 2048; 5,000 in tables see 320,000."""
    config = default_config()
    config.model.update(fields)
    config.data.crop_size = (128, 128)
    assert InferenceSettings.from_config(config).max_pixels == seen
    config.data.crop_size = (3000, 3000)  # training held as much
    crop = None if seen is None else 9_000_000
    assert InferenceSettings.from_config(config).max_pixels == crop


def test_too_large_an_image_passes_smaller_and_comes_back_at_its_size(capsys):
    """A ramp survives: bilinear resizing with aligned corners keeps affine images."""
    seen = []

    def identity(images):
        seen.append(images.shape)
        return {"fine": jnp.log(images)}

    ramp = np.linspace(1.0, 2.0, 40, dtype=np.float32)[None, None, :, None]
    images = jnp.asarray(np.tile(ramp, (1, 20, 1, 3)) / 6 * np.float32([1, 2, 3]))
    settings = InferenceSettings(max_pixels=200)
    result = predict_probabilities(identity, images, settings)["fine"]
    assert seen == [(1, 10, 20, 3)]
    assert result.shape == images.shape
    np.testing.assert_allclose(result, images / images.sum(-1, keepdims=True), rtol=1e-4)
    assert "20 x 40 are too large" in capsys.readouterr().err


# ---- Model -------------------------------------------------------------------------------------


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
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4,), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)
def test_other_arrays_are_refused(image):
    with pytest.raises(UserError, match="uint8"):
        brightest_channel_model().predict(image)


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


def test_a_loaded_network_keeps_its_shape(tiny_model, tmp_path):
    def configure(config):
        config.model.channels = 32
        return config

    tiny_model.save(tmp_path / "model")
    with pytest.raises(UserError, match=r"config\.model\.channels"):
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
