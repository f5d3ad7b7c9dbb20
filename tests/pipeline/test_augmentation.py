"""Crops, scales, flips, colours and normalisation of images that tell where they come from."""

import numpy as np
import pytest

from helpers.blocks import CLASSES, HEIGHT, TRAIN, WIDTH, make_example, take
from ranet_jax.pipeline import examples as data_input

pytestmark = pytest.mark.slow


@pytest.fixture
def builder(config):
    return data_input.open_dataset(config.data)


def test_padding_is_the_mean_colour_and_the_ignore_label(config, builder):
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    config.data.update(crop_size=(50, 70), mean=mean, std=std, brightness=0.3)
    for batch in take(data_input.train_batches(config, builder), 3):
        inside = np.zeros(batch["label"].shape, bool)
        inside[:, :HEIGHT, :WIDTH] = True
        assert (batch["label"][~inside] == 255).all()
        assert (batch["label"][inside] < CLASSES).all()
        assert not batch["image"][~inside].any()


def test_normalisation_and_channel_order(config, builder):
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    plain = next(data_input.train_batches(config, builder))["image"]
    config.data.update(mean=mean, std=std)
    normalised = next(data_input.train_batches(config, builder))["image"]
    expected = (plain.astype(np.float64) - mean) / std
    np.testing.assert_allclose(normalised, expected, rtol=1e-5, atol=1e-5)
    config.data.channel_order = "bgr"
    reversed_channels = next(data_input.train_batches(config, builder))["image"]
    np.testing.assert_array_equal(reversed_channels, normalised[..., ::-1])


def test_crop_is_one_window_of_image_and_label_at_any_place(config, builder):
    height, width = 36, 54
    config.data.crop_size = (height, width)
    places = set()
    for batch in take(data_input.train_batches(config, builder), 100):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            whole_image, whole_label = make_example(int((image[0, 0, 0] - 30) // 10))
            left = int(image[0, 0, 2])
            tops = [
                top
                for top in range(HEIGHT - height + 1)
                if (whole_image[top : top + height, left : left + width] == image).all()
                and (whole_label[top : top + height, left : left + width] == label).all()
            ]
            assert tops
            places.add((tops[0], left))
    assert {top for top, _ in places} == set(range(HEIGHT - height + 1))
    assert {left for _, left in places} == set(range(WIDTH - width + 1))


def test_crop_may_be_smaller_one_way_and_larger_the_other(config, builder):
    config.data.crop_size = (25, 80)
    batch = next(data_input.train_batches(config, builder))
    assert batch["image"].shape == (3, 25, 80, 3)
    assert (batch["label"][:, :, :WIDTH] < CLASSES).all()
    assert (batch["label"][:, :, WIDTH:] == 255).all()


def test_flip_mirrors_the_width_of_image_and_label_together_half_of_the_time(config, builder):
    config.data.flip = True
    flipped = []
    for batch in take(data_input.train_batches(config, builder), 40):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            whole_image, whole_label = make_example(int((image[0, 0, 0] - 30) // 10))
            flipped.append(bool(image[0, 0, 2]))
            step = -1 if flipped[-1] else 1
            np.testing.assert_array_equal(image, whole_image[:, ::step])
            np.testing.assert_array_equal(label, whole_label[:, ::step])
    assert 0.3 < np.mean(flipped) < 0.7


def test_scale_is_uniform_and_the_same_for_image_and_label(config, builder):
    config.data.update(crop_size=(2 * HEIGHT, 2 * WIDTH), scale_range=(0.5, 2.0), flip=True)
    scales = []
    for batch in take(data_input.train_batches(config, builder), 40):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            inside = label != 255
            height, width = inside.any(axis=1).sum(), inside.any(axis=0).sum()
            assert inside.sum() == height * width
            scales.append(height / HEIGHT)
            assert abs(width - WIDTH * scales[-1]) <= 0.5 * WIDTH / HEIGHT + 0.5
            # Away from the borders of blocks, colour still tells the label.
            near = np.lib.stride_tricks.sliding_window_view(label, (5, 5))
            even = (near.min(axis=(2, 3)) == near.max(axis=(2, 3))) & (near[..., 2, 2] != 255)
            middle = even.nonzero()[0] + 2, even.nonzero()[1] + 2
            assert len(middle[0]) > 0.1 * inside.sum()
            np.testing.assert_allclose(
                image[..., 1][middle], 50.0 * label[middle].astype(np.float64), atol=1e-3
            )
    counts, _ = np.histogram(scales, bins=3, range=(0.49, 2.01))
    assert counts.sum() == len(scales) and (counts > 0.2 * len(scales)).all()


GREY = np.array([0.2989, 0.587, 0.114])  # Rec. 601, as TensorFlow has it


def pairs_with_their_examples(config, builder):
    """Augmented images of 20 batches, each with the original image."""
    for batch in take(data_input.train_batches(config, builder), 20):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            (whole,) = [
                example
                for example, its_label in map(make_example, range(TRAIN))
                if (its_label == label).all()
            ]
            yield image.astype(np.float64), whole.astype(np.float64)


def test_brightness_is_one_shift_an_example_clipped_to_the_range_of_colours(config, builder):
    config.data.brightness = 0.5
    shifts = []
    for image, whole in pairs_with_their_examples(config, builder):
        assert image.min() >= 0 and image.max() <= 255
        open_range = (image > 0) & (image < 255)
        change = (image - whole)[open_range]
        assert np.ptp(change) < 1e-3
        shifts.append(float(change[0]))
        np.testing.assert_allclose(image, np.clip(whole + change[0], 0, 255), rtol=0, atol=1e-3)
    assert max(map(abs, shifts)) <= 127.5
    assert min(shifts) < -60 and max(shifts) > 60 and len(set(shifts)) == len(shifts)


def test_contrast_multiplies_the_distance_from_the_mean_grey(config, builder):
    config.data.contrast = 0.4
    factors = []
    for image, whole in pairs_with_their_examples(config, builder):
        grey = (whole @ GREY).mean()
        open_range = (image > 0) & (image < 255) & (np.abs(whole - grey) > 20)
        found = (image - grey)[open_range] / (whole - grey)[open_range]
        assert np.ptp(found) < 1e-3
        factors.append(found.mean())
        np.testing.assert_allclose(
            image, np.clip(grey + factors[-1] * (whole - grey), 0, 255), rtol=0, atol=0.05
        )
    assert min(factors) >= 0.6 - 1e-4 and max(factors) <= 1.4 + 1e-4
    assert min(factors) < 0.8 and max(factors) > 1.2


def test_saturation_multiplies_the_distance_from_each_pixels_grey(config, builder):
    config.data.saturation = 0.5
    factors = []
    for image, whole in pairs_with_their_examples(config, builder):
        greys = np.broadcast_to((whole @ GREY)[..., None], whole.shape)
        open_range = (image > 0) & (image < 255) & (np.abs(whole - greys) > 20)
        found = (image - greys)[open_range] / (whole - greys)[open_range]
        assert np.ptp(found) < 1e-2
        factors.append(found.mean())
    assert min(factors) >= 0.5 - 1e-3 and max(factors) <= 1.5 + 1e-3
    assert min(factors) < 0.8 and max(factors) > 1.2
