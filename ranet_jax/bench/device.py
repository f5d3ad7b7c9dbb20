"""`ranet bench device`: what this machine's accelerator computes, and how fast.

Every schedule of Eqs. 1-5 is compared with the equations as they stand, the blocks and the training
step are timed, with PyTorch's DeepLabV3 beside them where it is installed.
"""

import dataclasses
import importlib.metadata
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict
from tqdm import tqdm

from ranet_jax.bench.measure import check_counts
from ranet_jax.bench.real_step import build_step, random_batch
from ranet_jax.bench.region_blocks import CHANNELS, construct, interact, with_gradient
from ranet_jax.bench.torch_twin import deeplabv3_step
from ranet_jax.markdown import table

# Largest difference that a schedule may show to `dense`, in a score or, relative to the largest, in
# a gradient: ten times what float32 gives.
TOLERANCE = 1e-4
CHECKED_SIZE = (21, 32)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far a schedule lies from the equations as they stand."""

    schedule: str
    labels_differing: int
    score_difference: float
    gradient_difference: float

    @property
    def passes(self) -> bool:
        """Whether the labels are the same and nothing lies further than `TOLERANCE`."""
        return not self.labels_differing and bool(
            max(self.score_difference, self.gradient_difference) <= TOLERANCE
        )


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of a first run, which compiles, and of those after it, for a number of images."""

    name: str
    images: int
    first_seconds: float
    seconds: tuple[float, ...]

    @property
    def images_per_second(self) -> float:
        """By the median of the runs after the first."""
        return self.images / statistics.median(self.seconds)


def check_schedules(num_classes: int, size: tuple[int, int] = CHECKED_SIZE) -> list[Agreement]:
    """Compare every schedule that this platform runs with the dense equations, on its device."""
    maps = _maps(num_classes, size)
    schedules = ["streaming", "planes"]
    if jax.default_backend() == "tpu":
        schedules.append("kernel")

    def run(path: str) -> tuple[Any, Any]:
        function = jax.jit(with_gradient(lambda *x: construct(path, *x), len(maps)))
        (_, results), gradients = function(*maps)
        return jax.device_get(results), jax.device_get(gradients)

    (labels, score), gradients = run("dense")
    found = []
    for schedule in tqdm(schedules, unit="schedule", desc="check", disable=None):
        (other_labels, other_score), other_gradients = run(schedule)
        found.append(
            Agreement(
                schedule,
                int(np.sum(labels != other_labels)),
                float(np.abs(score - other_score).max()),
                max(
                    float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-6))
                    for one, other in zip(gradients, other_gradients, strict=True)
                ),
            )
        )
    return found


def _maps(num_classes: int, size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Boundary scores, probabilities and W^g: cells of some ten pixels, blurred by noise."""
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    rows, columns = (np.arange(side) // 10 for side in size)
    category = (rows[:, None] * 3 + columns[None]) % num_classes
    scores = 6.0 * jax.nn.one_hot(category, num_classes)
    scores += 0.3 * jax.random.normal(keys[0], scores.shape)
    border = (np.arange(size[0]) % 10 == 0)[:, None] | (np.arange(size[1]) % 10 == 0)[None]
    boundary = jnp.where(border, 0.3, 0.02) + 0.1 * jax.random.uniform(keys[1], size)
    return boundary, jax.nn.softmax(scores), jnp.ones((1, 1))


def time_device(
    config: ConfigDict, num_classes: int, size: tuple[int, int], repeats: int
) -> list[Timing]:
    """Time the two blocks and the training steps of a config, its own and PyTorch's.

    Args:
      config: experiment whose step is timed, as it is and without a context block.
      num_classes: categories.
      size: feature map of the blocks.
      repeats: runs of each after the first.

    Raises:
      UserError: a number is less than 1, or the config does not fit the devices.
    """
    counts = {"height": size[0], "width": size[1], "number of categories": num_classes}
    check_counts(counts | {"number of runs": repeats})
    batch = random_batch(config, num_classes)
    images = config.train.batch_size
    cases: list[tuple[str, Callable[[], Callable[[], object]]]] = [
        *_block_cases(num_classes, size, images),
        *(
            (f"training step, context={each.model.context}", _step_case(each, num_classes, batch))
            for each in _with_and_without_context(config)
        ),
    ]
    if importlib.util.find_spec("torch") is not None:
        name = "training step, PyTorch's DeepLabV3-ResNet101"
        cases.append((name, lambda: _bind(deeplabv3_step(num_classes), batch)))
    timings = []
    for name, prepare in tqdm(cases, unit="case", desc="time", disable=None):
        run = prepare()
        first, *others = [_timed(run) for _ in range(repeats + 1)]
        timings.append(Timing(name, images, first, tuple(others)))
    return timings


def _with_and_without_context(config: ConfigDict) -> list[ConfigDict]:
    plain = config.copy_and_resolve_references()
    plain.model.context = "none"
    return [plain, config]


def _block_cases(
    num_classes: int, size: tuple[int, int], images: int
) -> list[tuple[str, Callable[[], Callable[[], object]]]]:
    def repeat(x: Array) -> Array:
        return jnp.broadcast_to(x, (images, *x.shape))

    def blocks(
        function: Callable[..., Any], arguments: Sequence[Array], axes: tuple[int | None, ...]
    ) -> Callable[[], object]:
        mapped = jax.jit(jax.vmap(function, in_axes=axes))
        return lambda: jax.block_until_ready(mapped(*arguments))

    boundary, probabilities, kernel = _maps(num_classes, size)
    maps, axes = (repeat(boundary), repeat(probabilities), kernel), (0, 0, None)

    def eqs1_5(*arguments: Array) -> tuple[Array, Array]:
        return construct("auto", *arguments)

    def interaction(
        score: Array, features: Float[Array, "n m"], labels: Array
    ) -> tuple[Array, Array]:
        return interact(labels, score, features)

    def prepare_interaction() -> Callable[[], object]:
        labels, score = jax.jit(eqs1_5)(boundary, probabilities, kernel)
        features = jax.random.normal(jax.random.PRNGKey(1), (size[0] * size[1], CHANNELS))
        arguments = (repeat(score), repeat(features), repeat(labels))
        return blocks(with_gradient(interaction, 2), arguments, (0, 0, 0))

    return [
        ("Eqs. 1-5, forward", lambda: blocks(eqs1_5, maps, axes)),
        ("Eqs. 1-5, forward + backward", lambda: blocks(with_gradient(eqs1_5, 3), maps, axes)),
        ("Eqs. 6-8, forward + backward", prepare_interaction),
    ]


def _step_case(
    config: ConfigDict, num_classes: int, batch: dict[str, np.ndarray]
) -> Callable[[], Callable[[], object]]:
    return lambda: _bind(build_step(config, num_classes)[1], batch)


def _bind(step: Callable[[Any], object], batch: Any) -> Callable[[], object]:
    return lambda: step(batch)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def device_report(
    agreements: Sequence[Agreement], timings: Sequence[Timing], miou: float | None
) -> str:
    """Markdown: one table, a row a check, a timing or the training's score."""
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
            f"{1e3 * statistics.median(each.seconds):.1f} ms for {each.images}, the first"
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
    """Plain dictionary of the same."""
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
