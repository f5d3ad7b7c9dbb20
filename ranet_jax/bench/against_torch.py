"""`ranet bench step --against torch`: a config's training step timed in turn with PyTorch's."""

import dataclasses
import functools
import math
from typing import Any

import jax
from ml_collections import ConfigDict

from ranet_jax.bench.measure import Timing
from ranet_jax.bench.random_batch import (
    build_convolution,
    build_scores,
    random_batch,
    random_convolution,
)
from ranet_jax.bench.torch_twin import (
    check_twin,
    torch_convolution,
    torch_network,
    torch_scores,
    torch_step,
)
from ranet_jax.display.progress import track
from ranet_jax.display.tables import table
from ranet_jax.errors import check_counts
from ranet_jax.training.local_step import build_step
from ranet_jax.training.timing import timed

# Largest relative difference between the losses of the two first steps.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Pair:
    """Times of the same computation here and in PyTorch."""

    ours: Timing
    theirs: Timing

    @property
    def ratio(self) -> float:
        """Our median over PyTorch's."""
        return self.ours.median_seconds / self.theirs.median_seconds


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Times of the steps and of parts of them alone, and the losses of the two first steps."""

    step: Pair
    scores: Pair
    convolution: Pair
    losses: tuple[float, float]


def compare_steps(config: ConfigDict, num_classes: int, repeats: int) -> Comparison:
    """Time a config's training step here and in PyTorch, one after the other, `repeats` times.

    The network's score maps in training mode, without gradients, are timed in the same way, and so
    is one 3 x 3 convolution of the context block's features, for which each side calls its library.

    Both start from the same weights and see the same random images, without dropout, so that the
    losses of their first steps show that they compute the same.

    Raises:
      UserError: the config is not valid for training, PyTorch's step does not cover its network, or
        PyTorch is missing.
      RuntimeError: the losses differ.
    """
    check_counts({"number of categories": num_classes, "number of repeats": repeats})
    check_twin(config)
    config = config.copy_and_resolve_references()
    config.model.dropout = 0.0
    variables, step = build_step(config, num_classes)
    network = torch_network(config, variables, num_classes)
    convolution = random_convolution(config)
    runs = {
        "ranet_jax, step": step,
        "PyTorch, step": torch_step(config, network),
        "ranet_jax, score maps": build_scores(config, num_classes, variables),
        "PyTorch, score maps": torch_scores(network),
        "XLA, convolution": build_convolution(*convolution),
        "PyTorch, convolution": torch_convolution(*convolution),
    }
    batch = random_batch(config, num_classes)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in track(range(repeats + 1), unit="round", desc="steps"):
        for name, run in runs.items():
            results[name].append(timed(functools.partial(run, batch)))
    timings = []
    for name, ((first, _), *others) in results.items():
        seconds = tuple(seconds for seconds, _ in others)
        timings.append(Timing(name, config.train.batch_size, first, seconds))
    ours, theirs = (results[name][0][1] for name in list(runs)[:2])
    if not math.isclose(ours, theirs, rel_tol=TOLERANCE):
        raise RuntimeError(f"The two steps differ: {ours} here, {theirs} there.")
    whole, scores, one = (Pair(*timings[n : n + 2]) for n in range(0, len(timings), 2))
    return Comparison(whole, scores, one, (ours, theirs))


def comparison_report(comparison: Comparison, config: ConfigDict) -> str:
    """Markdown: one row per timing, then the ratios of the medians."""
    pairs = (comparison.step, comparison.scores, comparison.convolution)
    timings = [each for pair in pairs for each in (pair.ours, pair.theirs)]
    losses = [f"{loss:.4f}" for loss in comparison.losses]
    losses += [""] * (len(timings) - len(losses))
    rows = [
        (
            each.name,
            loss,
            f"{each.first_seconds:.2f}",
            f"{each.median_seconds:.3f}",
            f"{min(each.seconds):.3f}-{max(each.seconds):.3f}",
            f"{each.images_per_second:.1f}",
        )
        for each, loss in zip(timings, losses, strict=True)
    ]
    header = ("", "first loss", "first (s)", "median (s)", "range (s)", "images/s")
    height, width = config.data.crop_size
    return "\n\n".join(
        [
            f"Training step of {config.model.backbone}, output stride"
            f" {config.model.output_stride}, batch {config.train.batch_size} of {height} x {width}"
            f" pixels, timed in turn {len(comparison.step.ours.seconds)} times after a first step,"
            " which compiles; the same for only the network's score maps, in training mode, and for"
            f" one 3 x 3 convolution of {config.model.channels} channels.",
            table(header, rows),
            f"ranet_jax takes {comparison.step.ratio:.2f} times PyTorch's median for a step and"
            f" {comparison.scores.ratio:.2f} times for the score maps; XLA takes"
            f" {comparison.convolution.ratio:.2f} times for the convolution.",
        ]
    )


def comparison_results(comparison: Comparison, config: ConfigDict) -> dict[str, Any]:
    """Plain dictionary of the times, with a description of what was timed."""
    return {
        "backbone": config.model.backbone,
        "output_stride": config.model.output_stride,
        "batch_size": config.train.batch_size,
        "crop_size": list(config.data.crop_size),
        "device": jax.devices()[0].device_kind,
        **dataclasses.asdict(comparison),
        "ratios_of_medians": {
            "step": comparison.step.ratio,
            "scores": comparison.scores.ratio,
            "convolution": comparison.convolution.ratio,
        },
    }
