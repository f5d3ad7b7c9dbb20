import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.score_maps import interpolate, softmax
from ranet_jax.inference.probabilities import predict_probabilities
from ranet_jax.inference.settings import InferenceSettings

pytestmark = pytest.mark.slow


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


def test_scores_without_aligned_corners_are_resized_as_pytorch_does():
    rng = np.random.default_rng(2)
    images = rng.normal(0, 3, (1, 6, 9, 3)).astype(np.float32)
    settings = InferenceSettings(scales=(1.0, 1.5), align_corners=False)

    def strided(images):
        return {"fine": images[:, 1::3, 1::3]}  # the middle of cells of 3 x 3 pixels

    def resized(maps, shape):
        return torch.nn.functional.interpolate(maps, shape, mode="bilinear")

    image = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    larger = resized(image, (9, 14))  # 13.5 rounds up
    expected = resized(image[:, :, 1::3, 1::3], (6, 9)).softmax(dim=1)
    expected += resized(resized(larger[:, :, 1::3, 1::3], (9, 14)).softmax(dim=1), (6, 9))
    result = predict_probabilities(strided, jnp.asarray(images), settings)["fine"]
    np.testing.assert_allclose(result, expected.numpy().transpose(0, 2, 3, 1) / 2, atol=5e-6)


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
