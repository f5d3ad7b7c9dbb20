"""Crops, batches and the division of the given time, worked out by hand."""

import math

import pytest

from ranet_jax.errors import UserError
from ranet_jax.training.recipe import choices
from ranet_jax.training.recipe.choices import Pace, Steps


@pytest.mark.parametrize(
    "sizes, most, crop",
    [
        ([(128, 128)], 76_800, (128, 128)),
        ([(100, 100)], 76_800, (96, 96)),
        ([(9, 300)], 76_800, (16, 288)),
        ([(480, 640)], 76_800, (240, 320)),
        ([(64, 96), (128, 96), (1024, 96)], 76_800, (128, 96)),
        ([(3000, 4000)], 769 * 769, (656, 880)),
    ],
)
def test_a_crop_is_the_median_image_or_a_smaller_one_of_its_shape(sizes, most, crop):
    assert choices.crop_size(sizes, most) == crop
    assert math.prod(crop) <= most


def test_a_smaller_crop_keeps_its_shape():
    assert choices.smaller_crop((256, 512), 1 / 4) == (128, 256)
    assert choices.smaller_crop((16, 16), 1 / 4) == (16, 16)


@pytest.mark.parametrize("devices, batch", [(1, 8), (2, 8), (3, 9), (8, 8), (64, 64)])
def test_a_batch_is_one_that_the_devices_share(devices, batch):
    assert choices.batch_size(devices) == batch


def test_a_time_is_divided():
    """All of 1,000 s are left: 45 + 40 for set-up and spare, 15 % of the rest for evaluations."""
    plan = choices.divide(Pace(30.0, 1.0, 10.0, 19.0), 1000.0, 1000.0)
    free = 1000 - 30 - 10 - choices.END_SECONDS - 40
    assert plan.evaluations == int(0.15 * free / 20) == 6
    assert plan.evaluated == 1.0
    assert plan.step_seconds == pytest.approx(free - 6 * 20.0)
    assert plan.step_seconds + plan.other_seconds == pytest.approx(1000)


def test_an_evaluation_that_takes_too_long_scores_fewer_images():
    plan = choices.divide(Pace(30.0, 1.0, 10.0, 1999.0), 1000.0, 1000.0)
    free = 1000 - 30 - 10 - choices.END_SECONDS - 40
    assert plan.evaluations == 1
    assert plan.evaluated * 1999.0 + choices.SAVE_SECONDS == pytest.approx(0.15 * free)
    whole = choices.divide(Pace(30.0, 1.0, 10.0, 1999.0), 1000.0, 1000.0, divisible=False)
    assert (whole.evaluated, whole.step_seconds) == (1.0, 0.0)


def test_many_steps_are_as_they_were_measured():
    measured = Steps(0, 8, (240, 320), 0.5)
    assert choices.fit_steps(500.0, measured, 4, 0.25, 1) == Steps(1000, 8, (240, 320), 0.5)
    assert choices.fit_steps(1e9, measured, 4, 0.25, 1).steps == choices.MOST_STEPS


def test_few_steps_take_smaller_batches_then_smaller_crops():
    measured = Steps(0, 8, (256, 512), 1.0)
    assert choices.fit_steps(100.0, measured, 4, 0.25, 1) == Steps(200, 4, (256, 512), 0.5)
    assert choices.fit_steps(25.0, measured, 4, 0.25, 1) == Steps(200, 4, (128, 256), 0.125)
    assert choices.fit_steps(25.0, measured, 8, 1.0, 1) == Steps(25, 8, (256, 512), 1.0)
    assert choices.fit_steps(100.0, measured, 4, 1.0, 8) == Steps(100, 8, (256, 512), 1.0)


def test_a_time_that_is_too_short_is_refused_with_one_that_is_not():
    few, enough = Steps(19, 4, (64, 64), 3.0), Steps(20, 4, (64, 64), 3.0)
    choices.check_steps(enough, 120.0, 60.0)
    sentence = "In 2.0 minutes .* 20 steps: each takes 3.0 s and .* 60 s; choose 3 minutes or more"
    with pytest.raises(UserError, match=sentence):
        choices.check_steps(few, 120.0, 60.0)
