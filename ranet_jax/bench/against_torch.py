"""`ranet bench step --against torch`: a config's training step timed in turn with PyTorch's."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ranet_jax.bench.measure import check_counts
from ranet_jax.bench.real_step import build_step, random_batch
from ranet_jax.bench.torch_twin import torch_step
from ranet_jax.config import check_config
from ranet_jax.markdown import table

# How far the losses of the two first steps may lie apart, as a fraction.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """What the steps of one library took: the first, which compiles, and those after it."""

    library: str
    loss: float
    first_seconds: float
    seconds: tuple[float, ...]


def time_steps(config: ConfigDict, num_classes: int, repeats: int) -> tuple[StepTimes, StepTimes]:
    """Time a config's training step here and in PyTorch, one after the other, `repeats` times.

    Both start from the same weights and see the same random images, without dropout, so that the
    losses of their first steps show that they compute the same.

    Raises:
      UserError: the config describes no training or a network that PyTorch's step is not of, or
        PyTorch is missing.
      RuntimeError: the losses differ.
    """
    check_counts({"number of categories": num_classes, "number of repeats": repeats})
    config = config.copy_and_resolve_references()
    config.model.dropout = 0.0
    check_config(config)
    batch = random_batch(config, num_classes)
    variables, ours = build_step(config, num_classes)
    theirs = torch_step(config, variables, num_classes)
    runs: dict[str, list[tuple[float, float]]] = {"ranet_jax": [], "PyTorch": []}
    for _ in tqdm(range(repeats + 1), unit="pair", desc="steps", disable=None):
        for library, function in (("ranet_jax", ours), ("PyTorch", theirs)):
            runs[library].append(_timed(function, batch))
    found = [
        StepTimes(library, losses[0][1], losses[0][0], tuple(s for s, _ in losses[1:]))
        for library, losses in runs.items()
    ]
    if not math.isclose(found[0].loss, found[1].loss, rel_tol=TOLERANCE):
        raise RuntimeError(f"The two steps differ: {found[0].loss} here, {found[1].loss} there.")
    return found[0], found[1]


def _timed(
    function: Callable[[dict[str, np.ndarray]], float], batch: dict[str, np.ndarray]
) -> tuple[float, float]:
    start = time.perf_counter()
    loss = function(batch)
    return time.perf_counter() - start, loss


def times_report(times: tuple[StepTimes, StepTimes], config: ConfigDict) -> str:
    """Markdown: a row a library, then the ratio of their medians."""
    batch = config.train.batch_size
    rows = [
        (
            each.library,
            f"{each.loss:.4f}",
            f"{each.first_seconds:.2f}",
            f"{statistics.median(each.seconds):.2f}",
            f"{min(each.seconds):.2f}-{max(each.seconds):.2f}",
            f"{batch / statistics.median(each.seconds):.1f}",
        )
        for each in times
    ]
    header = ("step", "first loss", "first (s)", "median (s)", "range (s)", "images/s")
    height, width = config.data.crop_size
    ours, theirs = (statistics.median(each.seconds) for each in times)
    return "\n\n".join(
        [
            f"Training step of {config.model.backbone}, output stride"
            f" {config.model.output_stride}, batch {batch} of {height} x {width} pixels, timed in"
            f" turn {len(times[0].seconds)} times after a first step, which compiles.",
            table(header, rows),
            f"ranet_jax takes {ours / theirs:.2f} times PyTorch's median.",
        ]
    )


def times_results(times: tuple[StepTimes, StepTimes], config: ConfigDict) -> dict[str, Any]:
    """Plain dictionary of the times, and of what was timed."""
    ours, theirs = (statistics.median(each.seconds) for each in times)
    return {
        "backbone": config.model.backbone,
        "output_stride": config.model.output_stride,
        "batch_size": config.train.batch_size,
        "crop_size": list(config.data.crop_size),
        "device": jax.devices()[0].device_kind,
        "steps": [dataclasses.asdict(each) for each in times],
        "ratio_of_medians": ours / theirs,
    }
