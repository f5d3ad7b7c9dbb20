"""`ranet bench step --against torch`: a config's training step timed in turn with PyTorch's."""

import dataclasses
import functools
import math
from typing import Any

import jax
from ml_collections import ConfigDict

from ranet_jax.bench.local_step import build_step, random_batch
from ranet_jax.bench.measure import Timing, check_counts, timed
from ranet_jax.bench.torch_twin import torch_step
from ranet_jax.markdown import table
from ranet_jax.progress import track

# How far the losses of the two first steps may lie apart, as a fraction.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Our step and PyTorch's, and the loss of the first step of each."""

    ours: Timing
    theirs: Timing
    losses: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Our median over PyTorch's."""
        return self.ours.median_seconds / self.theirs.median_seconds


def compare_steps(config: ConfigDict, num_classes: int, repeats: int) -> Comparison:
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
    variables, ours = build_step(config, num_classes)
    theirs = torch_step(config, variables, num_classes)
    batch = random_batch(config, num_classes)
    runs = {
        "ranet_jax": functools.partial(ours, batch),
        "PyTorch": functools.partial(theirs, batch),
    }
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in track(range(repeats + 1), unit="pair", desc="steps"):
        for name, run in runs.items():
            results[name].append(timed(run))
    timings, losses = [], []
    for name, ((first, loss), *others) in results.items():
        seconds = tuple(seconds for seconds, _ in others)
        timings.append(Timing(name, config.train.batch_size, first, seconds))
        losses.append(loss)
    if not math.isclose(*losses, rel_tol=TOLERANCE):
        raise RuntimeError(f"The two steps differ: {losses[0]} here, {losses[1]} there.")
    return Comparison(timings[0], timings[1], (losses[0], losses[1]))


def comparison_report(comparison: Comparison, config: ConfigDict) -> str:
    """Markdown: a row a step, then the ratio of their medians."""
    rows = [
        (
            each.name,
            f"{loss:.4f}",
            f"{each.first_seconds:.2f}",
            f"{each.median_seconds:.2f}",
            f"{min(each.seconds):.2f}-{max(each.seconds):.2f}",
            f"{each.images_per_second:.1f}",
        )
        for each, loss in zip((comparison.ours, comparison.theirs), comparison.losses, strict=True)
    ]
    header = ("step", "first loss", "first (s)", "median (s)", "range (s)", "images/s")
    height, width = config.data.crop_size
    return "\n\n".join(
        [
            f"Training step of {config.model.backbone}, output stride"
            f" {config.model.output_stride}, batch {config.train.batch_size} of {height} x {width}"
            f" pixels, timed in turn {len(comparison.ours.seconds)} times after a first step, which"
            " compiles.",
            table(header, rows),
            f"ranet_jax takes {comparison.ratio:.2f} times PyTorch's median.",
        ]
    )


def comparison_results(comparison: Comparison, config: ConfigDict) -> dict[str, Any]:
    """Plain dictionary of the times, and of what was timed."""
    return {
        "backbone": config.model.backbone,
        "output_stride": config.model.output_stride,
        "batch_size": config.train.batch_size,
        "crop_size": list(config.data.crop_size),
        "device": jax.devices()[0].device_kind,
        **dataclasses.asdict(comparison),
        "ratio_of_medians": comparison.ratio,
    }
