"""The rules by which a config is fitted to a data set, a machine and a time limit."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from ranet_jax.errors import UserError

Size = tuple[int, int]

# Most pixels of a crop: 240 x 320 on a CPU, the paper's 769 x 769 elsewhere.
CPU_PIXELS, ACCELERATOR_PIXELS = 240 * 320, 769 * 769
# Sides of crops are multiples of this number, and at least this number.
GRID = 16
# On a CPU, crops with more pixels than this use output stride 16.
STRIDE_8_PIXELS = 160 * 160
BATCH, LEAST_BATCH = 8, 4
# If fewer than ENOUGH_STEPS steps fit, batches and crops get smaller; a crop keeps at least the
# share LEAST_CROP of its pixels.
ENOUGH_STEPS, LEAST_STEPS, MOST_STEPS = 200, 20, 40_000
LEAST_CROP = 1 / 4
# Shares of the time: for all evaluations together, and in reserve for what is not foreseen.
EVALUATION_SHARE, SPARE_SHARE = 0.15, 0.04
MOST_EVALUATIONS = 10
# A network is compiled for at most this many image sizes; with more, evaluation slides a window.
MOST_SIZES = 4
# Seconds that are not measured: for each evaluation with its checkpoint, and for the end.
SAVE_SECONDS, END_SECONDS = 1.0, 5.0


def crop_size(sizes: Sequence[Size], most_pixels: int) -> Size:
    """The median height and width, reduced to at most `most_pixels`, in multiples of `GRID`."""
    height, width = (statistics.median(sides) for sides in zip(*sizes, strict=True))
    scale = min(1.0, math.sqrt(most_pixels / (height * width)))
    return _on_grid(height * scale), _on_grid(width * scale)


def smaller_crop(crop: Size, factor: float) -> Size:
    """A crop of about `factor` of the pixels, of the same shape."""
    scale = math.sqrt(factor)
    return _on_grid(crop[0] * scale), _on_grid(crop[1] * scale)


def _on_grid(side: float) -> int:
    return max(GRID, GRID * int(side / GRID + 1e-9))


def batch_size(devices: int, least: int = BATCH) -> int:
    """The smallest batch of at least `least` crops that the devices can share."""
    return devices * math.ceil(least / devices)


@dataclasses.dataclass(frozen=True)
class Pace:
    """The measured times of a training.

    Attributes:
      setup_seconds: time until the end of the first step, which includes compiling it.
      step_seconds: time of each later step.
      evaluation_setup_seconds: what compiling adds to the first evaluation.
      evaluation_seconds: time of an evaluation of all images.
    """

    setup_seconds: float
    step_seconds: float
    evaluation_setup_seconds: float
    evaluation_seconds: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the remaining time of a budget is divided.

    Attributes:
      step_seconds: for all steps.
      other_seconds: for everything else, evaluations included.
      evaluations: their number.
      evaluated: share of the images that each of them scores.
    """

    step_seconds: float
    other_seconds: float
    evaluations: int
    evaluated: float


def divide(pace: Pace, seconds: float, budget: float, divisible: bool = True) -> Plan:
    """Divide the remaining seconds of a budget into steps, evaluations and the rest.

    Evaluations take at most `EVALUATION_SHARE` of the time that set-up and reserve leave, but there
    is always at least one. If that one would take more than twice this share, it scores fewer
    images.

    Args:
      pace: the measured times.
      seconds: what is left of the budget.
      budget: seconds of the whole command.
      divisible: whether an evaluation can score a part of its images.
    """
    fixed = pace.setup_seconds + pace.evaluation_setup_seconds + END_SECONDS
    fixed += SPARE_SHARE * budget
    free = max(0.0, seconds - fixed)
    allowed = EVALUATION_SHARE * free
    each, evaluated = pace.evaluation_seconds + SAVE_SECONDS, 1.0
    if divisible and each > 2 * allowed > 2 * SAVE_SECONDS:
        evaluated = (allowed - SAVE_SECONDS) / pace.evaluation_seconds
        each = allowed
    evaluations = max(1, min(MOST_EVALUATIONS, int(allowed / each)))
    spent = evaluations * each
    return Plan(max(0.0, free - spent), fixed + spent, evaluations, evaluated)


@dataclasses.dataclass(frozen=True)
class Steps:
    """Number of steps, and the batch and crop that each of them takes."""

    steps: int
    batch_size: int
    crop_size: Size
    seconds_each: float


def fit_steps(
    seconds: float, measured: Steps, least_batch: int, least_crop: float, devices: int
) -> Steps:
    """As many steps as fit into the given time; they get smaller if fewer than `ENOUGH_STEPS` fit.

    Batches get smaller first, then crops. The time of a step is assumed to be proportional to its
    number of pixels.

    Args:
      seconds: time for all steps.
      measured: a step that was timed; its number of steps is ignored.
      least_batch: smallest batch, in crops.
      least_crop: smallest share of a crop's pixels to keep, 0 to 1.
      devices: number of devices that share a batch.

    Returns:
      At most `MOST_STEPS` steps; fewer than `LEAST_STEPS` if the time is too short.
    """
    batch, crop, each = measured.batch_size, measured.crop_size, measured.seconds_each
    wanted = seconds / ENOUGH_STEPS
    if each > wanted:
        batch = min(batch, batch_size(devices, max(least_batch, int(batch * wanted / each))))
        each = measured.seconds_each * batch / measured.batch_size
    if each > wanted and least_crop < 1:
        crop = smaller_crop(crop, max(least_crop, wanted / each))
        each *= math.prod(crop) / math.prod(measured.crop_size)
    return Steps(min(MOST_STEPS, int(seconds / each)), batch, crop, each)


def check_steps(steps: Steps, budget: float, other_seconds: float) -> None:
    """Raise `UserError` unless `LEAST_STEPS` steps fit into a budget along with everything else.

    Args:
      steps: what fits.
      budget: seconds of the whole command.
      other_seconds: the part of the budget for everything but steps.
    """
    if steps.steps < LEAST_STEPS:
        needed = other_seconds + LEAST_STEPS * steps.seconds_each
        raise UserError(
            f"In {budget / 60:.1f} minutes there is no time for {LEAST_STEPS} steps: each takes"
            f" {steps.seconds_each:.1f} s and everything else {other_seconds:.0f} s; choose"
            f" {math.ceil(1.1 * needed / 60)} minutes or more."
        )
