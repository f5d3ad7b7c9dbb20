"""A config fitted to a prepared data set, to this machine and to a number of minutes."""

import dataclasses
import math
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
from ml_collections import ConfigDict

from ranet_jax.config import changed_fields, check_value, set_field
from ranet_jax.config.field import shown
from ranet_jax.errors import UserError
from ranet_jax.files.paths import PathLike
from ranet_jax.pipeline.labels import LabelStatistics
from ranet_jax.pipeline.training_data import (
    TrainingData,
    open_training_data,
    read_labels,
    read_metadata,
    read_sizes,
)
from ranet_jax.training.initialization import describe_start
from ranet_jax.training.recipe import choices
from ranet_jax.training.recipe.choices import Pace, Size, Steps
from ranet_jax.training.recipe.measure import loading_share, measure_evaluation, measure_steps
from ranet_jax.training.step import check_training

# Shares of the budget that timing steps and timing evaluation may take.
STEP_SHARE, EVALUATION_SHARE = 0.04, 0.04
# Pattern of the classifiers, which do not fit the classes of another data set.
CLASSIFIERS = "logit/"


class Recipe:
    """A config that is being fitted: kept fields stay as they are, and every choice is reported.

    Attributes:
      config: the config with the choices made so far.
    """

    def __init__(self, config: ConfigDict, kept: Collection[str], tell: Callable[[str], None]):
        self.config = config.copy_and_resolve_references()
        self._kept, self._tell = frozenset(kept), tell

    def keeps(self, name: str) -> bool:
        """Whether a field was set by the user."""
        return name in self._kept

    def choose(self, name: str, value: Any, why: str) -> None:
        """Set a field, unless the user did, and report the value and the reason."""
        if not self.keeps(name):
            set_field(self.config, name, value)
            check_value(name, value)
            self._tell(f"config.{name} = {shown(value)}: {why}.")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A config, and the seconds that its training is planned to take in all."""

    config: ConfigDict
    seconds: float


def fit(
    config: ConfigDict,
    kept: Collection[str],
    minutes: float,
    started: float,
    arrays: PathLike | None = None,
    tell: Callable[[str], None] = print,
) -> Fitted:
    """Fit a config to the data set that it names, this machine and a budget of time.

    Class weights are `LabelStatistics.class_weights`, those of ENet. The crop has the median size
    of the images, reduced to what the machine can handle. The times of steps and evaluations are
    measured, and their numbers follow from the minutes that are left.

    Args:
      config: the config to start from.
      kept: dotted names of fields that stay as they are.
      minutes: time for everything from `started` on, including this fit and all evaluations.
      started: `time.monotonic()` when the command began.
      arrays: file of `ranet pack` to read in place of the prepared data set.
      tell: called with a sentence for each choice.

    Raises:
      UserError: the data cannot be read or do not fit the config, or the time is too short.
    """
    budget = 60 * minutes
    recipe = Recipe(config, kept, tell)
    dataset = read_metadata(config, arrays)
    if arrays is not None and dataset.name != config.data.name:
        raise UserError(
            f"{arrays} holds data set {dataset.name!r}, not {config.data.name!r}; name"
            " the one that it holds."
        )
    statistics, sizes = read_labels(config.data, dataset, arrays)
    scored = read_sizes(config.data, config.data.eval_split, arrays)
    tell(
        f"Data set {dataset.name}: {dataset.num_classes} classes, {len(sizes)} images of"
        f" {_sizes_in_words(sizes)} to train on, {len(scored)} to score."
    )
    _fit_to_data(recipe, statistics, sizes)
    _fit_start(recipe)
    _fit_batch(recipe)
    _fit_evaluation(recipe, scored)
    check_training(recipe.config, jax.device_count())

    data = open_training_data(recipe.config, arrays)
    tell("Timing the first steps and an evaluation.")
    pace, measured = _measure(recipe, data, budget, scored)
    split = recipe.config.data.eval_split
    divisible = arrays is None and "[" not in split and not recipe.keeps("data.eval_split")
    return _fit_time(recipe, pace, measured, budget, started, divisible)


def _sizes_in_words(sizes: list[Size]) -> str:
    distinct = sorted(set(sizes), key=math.prod)
    smallest, largest = (f"{height} x {width}" for height, width in (distinct[0], distinct[-1]))
    if smallest == largest:
        return f"{smallest} pixels"
    return f"{len(distinct)} sizes from {smallest} to {largest} pixels"


def _fit_to_data(recipe: Recipe, statistics: LabelStatistics, sizes: list[Size]) -> None:
    """Choose class weights, the crop size and the output stride."""
    present = statistics.shares[statistics.pixels > 0]
    if not len(present):
        raise UserError(
            f"Split {statistics.split!r} of {statistics.dataset.name!r} has no labelled pixel;"
            " label some of its images."
        )
    recipe.choose(
        "loss.class_weights",
        statistics.class_weights,
        f"ENet's weights, 1 / ln(1.02 + share of the pixels); the most frequent of {len(present)}"
        f" classes has {present.max() / present.min():.1f} times the pixels of the rarest",
    )
    accelerator = jax.default_backend() != "cpu"
    most = choices.ACCELERATOR_PIXELS if accelerator else choices.CPU_PIXELS
    crop = choices.crop_size(sizes, most)
    recipe.choose(
        "data.crop_size",
        crop,
        f"the median image size in multiples of {choices.GRID} pixels, with at most {most:,}"
        f" pixels on {'an accelerator' if accelerator else 'a CPU'}",
    )
    height, width = recipe.config.data.crop_size
    coarse = not accelerator and height * width > choices.STRIDE_8_PIXELS
    recipe.choose(
        "model.output_stride",
        16 if coarse else 8,
        "large crops on a CPU" if coarse else "small crops" if not accelerator else "the usual one",
    )


def _fit_start(recipe: Recipe) -> None:
    """Choose the network that fits the weights to start from, and learning rates."""
    start = recipe.config.model.init_from
    if start is None:
        if jax.default_backend() == "cpu":
            recipe.choose("model.width", 32, "a narrow network, as there is no accelerator")
        return
    _, backbone, described = describe_start(start)
    if described is None:
        recipe.choose("model.backbone", backbone, f"the network whose weights are in {start}")
        recipe.choose(
            "optimizer.lr_multipliers", (("backbone", 0.2),), "pretrained layers learn slower"
        )
        recipe.choose("optimizer.learning_rate", 0.03, "lower, as layers are pretrained")
        return
    for name in changed_fields(recipe.config, described, "weights"):
        value = described.model[name.removeprefix("model.")]
        recipe.choose(name, value, f"as in {start}")
    recipe.choose("model.output_stride", described.model.output_stride, f"as in {start}")
    recipe.choose(
        "model.init_allow_missing",
        CLASSIFIERS,
        "classifiers may start from random values for other classes",
    )


def _fit_batch(recipe: Recipe) -> None:
    devices = jax.device_count()
    batch = choices.batch_size(devices)
    usual = "the usual number of crops"
    why = usual if devices == 1 else f"{usual}, or the next number that {devices} devices can share"
    recipe.choose("train.batch_size", batch, why)


def _fit_evaluation(recipe: Recipe, scored: list[Size]) -> None:
    """Choose whether images are evaluated as a whole, and how many at a time."""
    crop = tuple(recipe.config.data.crop_size)
    if len(set(scored)) > choices.MOST_SIZES:
        why = f"images have {len(set(scored))} sizes, and each would be compiled separately"
        recipe.choose("eval.mode", "slide", why)
        recipe.choose("eval.crop_size", crop, "as in training")
        recipe.choose("eval.regions", False, "regions need passes over whole images")
    crop_pixels = recipe.config.train.batch_size * crop[0] * crop[1]
    largest = max(height * width for height, width in scored)
    recipe.choose(
        "eval.batch_size",
        max(1, min(16, crop_pixels // largest)),
        "about as many pixels as in a training batch",
    )


def _measure(
    recipe: Recipe, data: TrainingData, budget: float, scored: list[Size]
) -> tuple[Pace, Steps]:
    """Measure the times of steps and evaluations, and the size of a step that fits into memory."""
    stepping, fitting = measure_steps(recipe.config, data, STEP_SHARE * budget)
    batch, crop = fitting.train.batch_size, tuple(fitting.data.crop_size)
    if batch < recipe.config.train.batch_size:
        if recipe.keeps("train.batch_size"):
            raise UserError(
                f"A batch of {recipe.config.train.batch_size} does not fit into the device's"
                f" memory; set config.train.batch_size to {batch}."
            )
        recipe.choose("train.batch_size", batch, "as many as fit into the device's memory")
    variables = stepping.variables
    scoring = measure_evaluation(recipe.config, data, variables, EVALUATION_SHARE * budget)
    shapes = 1 if recipe.config.eval.mode == "slide" else len(set(scored))
    share = loading_share()
    pace = Pace(
        stepping.compile_seconds + share * stepping.build_seconds,
        stepping.step_seconds,
        share * shapes * scoring.compile_seconds,
        len(scored) * scoring.image_seconds,
    )
    return pace, Steps(0, batch, crop, stepping.step_seconds)


def _fit_time(
    recipe: Recipe,
    pace: Pace,
    measured: Steps,
    budget: float,
    started: float,
    divisible: bool,
) -> Fitted:
    """Choose steps, evaluations and checkpoints from the measured times and the time left.

    `divisible` says whether evaluations may score a part of their split.
    """
    config, devices = recipe.config, jax.device_count()
    gone = time.monotonic() - started
    plan = choices.divide(pace, budget - gone, budget, divisible)
    least_batch = measured.batch_size if recipe.keeps("train.batch_size") else choices.LEAST_BATCH
    least_crop = 1.0 if recipe.keeps("data.crop_size") else choices.LEAST_CROP
    steps = choices.fit_steps(plan.step_seconds, measured, least_batch, least_crop, devices)
    if not recipe.keeps("train.steps"):
        choices.check_steps(steps, budget, gone + plan.other_seconds)
        if (steps.batch_size, steps.crop_size) != (measured.batch_size, measured.crop_size):
            why = f"smaller, as fewer than {choices.ENOUGH_STEPS} steps of the timed size fit"
            recipe.choose("train.batch_size", steps.batch_size, why)
            recipe.choose("data.crop_size", steps.crop_size, why)
    minutes = steps.steps * steps.seconds_each / 60
    recipe.choose(
        "train.steps",
        steps.steps,
        f"{minutes:.1f} of the {budget / 60:.1f} minutes, at {steps.seconds_each:.2f} s per step;"
        f" {gone / 60:.1f} have passed, {plan.other_seconds / 60:.1f} are for compiling,"
        " evaluation and reserve",
    )
    _fit_learning_rate(recipe)
    each = plan.evaluated * pace.evaluation_seconds
    count = f"{plan.evaluations} evaluation{'s' if plan.evaluations > 1 else ''}"
    why = f"{count}, of {each:.1f} s each"
    recipe.choose("train.eval_every", -(-config.train.steps // plan.evaluations), why)
    every = max(1, min(config.train.eval_every, int(60 / steps.seconds_each)))
    work = every * steps.seconds_each
    recipe.choose("train.checkpoint_every", every, f"after {work:.0f} s of work, at most a minute")
    if plan.evaluated < 1:
        share = max(1, int(100 * plan.evaluated))
        recipe.choose(
            "data.eval_split",
            f"{config.data.eval_split}[:{share}%]",
            "scoring all images would take too long; score them afterwards with"
            f" `ranet evaluate --split {config.data.eval_split}`",
        )
    seconds = gone + plan.other_seconds + config.train.steps * steps.seconds_each
    return Fitted(config, seconds)


def _fit_learning_rate(recipe: Recipe) -> None:
    """Choose the warm-up, and a learning rate in proportion to the batch."""
    train, optimizer = recipe.config.train, recipe.config.optimizer
    recipe.choose("optimizer.warmup_steps", min(500, train.steps // 20), "a twentieth of the steps")
    if train.batch_size != choices.BATCH:
        rate = optimizer.learning_rate * train.batch_size / choices.BATCH
        recipe.choose("optimizer.learning_rate", rate, "in proportion to the batch")
