"""`ranet bench device`: what this machine's accelerator computes, and how fast.

Every schedule of Eqs. 1-5 is compared with the equations as they stand (`dense`). The blocks and
the training step are timed, and also PyTorch's DeepLabV3 if it is installed.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from ranet_jax.bench.measure import Timing
from ranet_jax.bench.random_batch import random_batch, without_context
from ranet_jax.bench.region_blocks import CHANNELS, construct, interact, with_gradient
from ranet_jax.bench.regions import SCENES
from ranet_jax.bench.torch_twin import deeplabv3_step
from ranet_jax.display.progress import track
from ranet_jax.display.tables import table
from ranet_jax.errors import check_counts
from ranet_jax.training.local_step import build_step
from ranet_jax.training.timing import timed

# Largest differences between a schedule and `dense`: for a score, the difference itself; for a
# gradient, the sum of the differences divided by the sum of the values. Rounding may decide which
# of two equal samples gets the gradient.
SCORE_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
CHECKED_SIZE = (21, 32)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far a schedule is from the equations as they stand."""

    schedule: str
    labels_differing: int
    score_difference: float
    gradient_difference: float

    @property
    def passes(self) -> bool:
        """Whether the labels are the same and the differences within their tolerances."""
        return (
            self.labels_differing == 0
            and self.score_difference <= SCORE_TOLERANCE
            and self.gradient_difference <= GRADIENT_TOLERANCE
        )


def check_schedules(num_classes: int, size: tuple[int, int] = CHECKED_SIZE) -> list[Agreement]:
    """Compare every schedule that this platform runs with the dense equations, on its device."""
    maps = SCENES["cells"](size, num_classes)
    schedules = ["streaming", "planes"]
    if jax.default_backend() == "tpu":
        schedules.append("kernel")

    def run(path: str) -> tuple[Any, Any]:
        function = jax.jit(with_gradient(lambda *x: construct(path, *x), len(maps)))
        (_, results), gradients = function(*maps)
        return jax.device_get(results), jax.device_get(gradients)

    (labels, score), gradients = run("dense")
    found = []
    for schedule in track(schedules, unit="schedule", desc="check"):
        (other_labels, other_score), other_gradients = run(schedule)
        found.append(
            Agreement(
                schedule,
                int(np.sum(labels != other_labels)),
                float(np.abs(score - other_score).max()),
                max(
                    float(np.abs(one - other).sum() / np.abs(one).sum())
                    for one, other in zip(gradients, other_gradients, strict=True)
                ),
            )
        )
    return found


def time_device(
    config: ConfigDict, num_classes: int, size: tuple[int, int], repeats: int
) -> list[Timing]:
    """Time the two blocks, the training steps of a config, and PyTorch's training step.

    Args:
      config: experiment whose step is timed, as it is and without a context block.
      num_classes: categories.
      size: height and width of the blocks' feature map.
      repeats: runs of each after the first.

    Raises:
      UserError: a number is not from 1 to 32,768, or the config does not fit the devices.
    """
    counts = {"height": size[0], "width": size[1], "number of categories": num_classes}
    check_counts(counts | {"number of runs": repeats})
    timings = []
    for name, run in track(_cases(config, num_classes, size), unit="case", desc="time"):
        first, *others = [timed(run)[0] for _ in range(repeats + 1)]
        timings.append(Timing(name, config.train.batch_size, first, tuple(others)))
    return timings


def _cases(
    config: ConfigDict, num_classes: int, size: tuple[int, int]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, by name; a case holds its arrays until the next one is requested."""
    images = config.train.batch_size

    def mapped(
        function: Callable[..., Any], arguments: Sequence[Array], shared: int = 0
    ) -> Callable[[], object]:
        """Map a function of one image over a batch that shares its last `shared` arguments."""
        each = len(arguments) - shared
        batched = [jnp.broadcast_to(x, (images, *x.shape)) for x in arguments[:each]]
        compiled = jax.jit(jax.vmap(function, in_axes=(0,) * each + (None,) * shared))
        return lambda: jax.block_until_ready(compiled(*batched, *arguments[each:]))

    maps = SCENES["cells"](size, num_classes)
    build = functools.partial(construct, "auto")
    yield "Eqs. 1-5, forward", mapped(build, maps, shared=1)
    yield "Eqs. 1-5, forward + backward", mapped(with_gradient(build, len(maps)), maps, shared=1)
    labels, score = jax.jit(build)(*maps)
    features = jax.random.normal(jax.random.key(0), (len(labels), CHANNELS))
    exchange = with_gradient(functools.partial(interact, labels), 2)
    yield "Eqs. 6-8, forward + backward", mapped(exchange, (score, features))
    batch = random_batch(config, num_classes)
    for each in (without_context(config), config):
        _, step = build_step(each, num_classes)
        yield f"training step, context={each.model.context}", functools.partial(step, batch)
        del step
    if importlib.util.find_spec("torch") is not None:
        name = "training step, PyTorch's DeepLabV3-ResNet101"
        yield name, functools.partial(deeplabv3_step(num_classes), batch)


def device_report(
    agreements: Sequence[Agreement], timings: Sequence[Timing], miou: float | None
) -> str:
    """Markdown: one table, with a row for each check, each timing and the training's score."""
    rows = [
        (
            f"Eqs. 1-5, {each.schedule} against dense",
            "equal" if each.passes else "DIFFERENT",
            f"{each.labels_differing} labels, score {each.score_difference:.1e},"
            f" gradient {each.gradient_difference:.1e}",
        )
        for each in agreements
    ]
    rows += [
        (
            each.name,
            f"{each.images_per_second:.2f} images/s",
            f"{1e3 * each.median_seconds:.1f} ms for {each.images}, the first"
            f" {each.first_seconds:.1f} s",
        )
        for each in timings
    ]
    if miou is not None:
        rows.append(("training from arrays, fine mean IoU", f"{100 * miou:.2f} %", ""))
    device = jax.devices()[0]
    versions = f"jax {jax.__version__}"
    if importlib.util.find_spec("torch") is not None:
        versions += f", torch {importlib.metadata.version('torch')}"
    opening = f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {versions}. Timed."
    return f"{opening}\n\n{table(('what', 'result', 'detail'), rows)}"


def device_results(
    agreements: Sequence[Agreement], timings: Sequence[Timing], miou: float | None
) -> dict[str, Any]:
    """Plain dictionary of what `device_report` shows."""
    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
        "jax": jax.__version__,
        "agreements": [dataclasses.asdict(each) | {"passes": each.passes} for each in agreements],
        "timings": [
            dataclasses.asdict(each) | {"images_per_second": each.images_per_second}
            for each in timings
        ],
        "fine_miou": miou,
    }
