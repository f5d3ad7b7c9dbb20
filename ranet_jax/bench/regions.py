"""`ranet bench regions`: what region construction and interaction cost, streaming and dense.

The construction (Eqs. 1-5) is measured for several numbers of categories on both paths, the
interaction (Eqs. 6-8) and the two together once. The `streaming` schedule skips offsets at which no
two pixels are in the same region. A synthetic scene of noisy cells has many such offsets; a uniform
map, which is a single region, has none.
"""

import dataclasses
import functools
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ranet_jax.bench.measure import Measurement, compile_and_measure
from ranet_jax.bench.region_blocks import (
    CHANNELS,
    NUM_REGIONS,
    PER_REGION,
    construct,
    construct_and_interact,
    interact,
    with_gradient,
)
from ranet_jax.display.progress import track
from ranet_jax.display.tables import table
from ranet_jax.errors import check_counts
from ranet_jax.ops.blocks import block_size
from ranet_jax.ops.schedules.pairs import windows

# Element-wise operations, a logarithm counted as one. For a sample: interpolation and maximum; for
# a category: mean, logarithm and both terms; for a pair: product of Eq. 3, kernel, and threshold or
# sum.
SAMPLE_FLOPS, CATEGORY_FLOPS, PAIR_FLOPS = 4, 10, 8
# The backward pass visits each sample to find the largest and again to add the gradient; for each
# category, it sums up the divergence and computes the gradient.
SAMPLE_FLOPS_BACKWARD, CATEGORY_FLOPS_BACKWARD, PAIR_FLOPS_BACKWARD = 18, 20, 24


@dataclasses.dataclass(frozen=True)
class RegionCost:
    """One row: what was measured, and the number of operations of its passes, by formula."""

    part: str
    path: str
    num_classes: int | None
    backward: bool
    flops: int
    measured: Measurement


@dataclasses.dataclass(frozen=True)
class _Case:
    part: str
    path: str
    num_classes: int | None
    backward: bool
    flops: int
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def pair_count(height: int, width: int) -> int:
    """Unordered pairs of pixels of a grid."""
    n = height * width
    return n * (n - 1) // 2


def sample_count(height: int, width: int) -> int:
    """Samples that Eq. 1 takes on the segments of all unordered pairs of pixels."""
    d, e = np.indices((height, width))
    each = (height - d) * (width - e) * (np.maximum(d, e) + 1)
    # Offsets with both parts positive stand for two directions; a pixel and itself are not a pair.
    return int((each * np.where((d > 0) & (e > 0), 2, 1)).sum()) - height * width


def streaming_counts(height: int, width: int) -> tuple[int, int]:
    """Pairs and samples that one streaming pass computes, including the padding of its windows."""
    visited = list(windows((height, width)))
    pairs = sum(count * length for count, length, _ in visited)
    return pairs, sum(count * length * samples for count, length, samples in visited)


def region_flops(
    height: int, width: int, num_classes: int, path: str = "streaming", backward: bool = False
) -> int:
    """Element-wise operations of Eqs. 1-5 on a path, by formula, a logarithm counted as one.

    The schedules make two passes forwards and one backwards over all pairs, counted with the
    padding of the windows of `streaming`; the dense path computes every ordered pair once, each
    with as many samples as the longest segment has, and its categories two more times backwards.
    """
    if path != "dense":
        pairs, samples = streaming_counts(height, width)
        forward = SAMPLE_FLOPS * samples + (CATEGORY_FLOPS * num_classes + PAIR_FLOPS) * pairs
        return 2 * forward + backward * (
            SAMPLE_FLOPS_BACKWARD * samples
            + (CATEGORY_FLOPS_BACKWARD * num_classes + PAIR_FLOPS_BACKWARD) * pairs
        )
    pairs = (height * width) ** 2
    steps = max(height, width)
    categories = CATEGORY_FLOPS * num_classes * (3 if backward else 1)
    return pairs * (SAMPLE_FLOPS * steps + categories + PAIR_FLOPS)


def interaction_flops(n: int, backward: bool = False) -> int:
    """Floating-point operations of Eqs. 6-8 for n pixels, by formula of their matrix products."""
    size = block_size(n, NUM_REGIONS)
    rows = (n // size + min(NUM_REGIONS, n)) * size
    places = NUM_REGIONS * PER_REGION
    forward = 8 * rows * PER_REGION * CHANNELS + 4 * places**2 * CHANNELS
    return forward * (3 if backward else 1)


def measure_regions(
    size: tuple[int, int],
    classes: Sequence[int],
    paths: Sequence[str],
    repeats: int,
    scene: str = "cells",
) -> list[RegionCost]:
    """Measure every case, with progress on standard error.

    A case that needs more temporary memory than three quarters of the device's memory is compiled
    but not run. The `scene` is one of `SCENES`.

    Raises:
      UserError: a number is not from 1 to 32,768.
    """
    counts = {"height": size[0], "width": size[1], "number of runs": repeats}
    for number in classes:
        check_counts(counts | {"number of categories": number})
    limit = _device_memory() * 3 // 4
    costs = []
    for case in track(list(_cases(size, classes, paths, scene)), unit="case", desc="bench"):
        measured = compile_and_measure(
            case.function, *case.arguments, repeats=repeats, memory_limit=limit
        )
        costs.append(
            RegionCost(case.part, case.path, case.num_classes, case.backward, case.flops, measured)
        )
    return costs


def _device_memory() -> int:
    """Bytes of the accelerator's memory, or of the machine's if the device reports none."""
    stats = jax.devices()[0].memory_stats() or {}
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return stats.get("bytes_limit", machine)


def _cases(
    size: tuple[int, int], classes: Sequence[int], paths: Sequence[str], scene: str
) -> Iterator[_Case]:
    n = size[0] * size[1]
    for num_classes in classes:
        maps = SCENES[scene](size, num_classes)
        for path in paths:
            on_path = functools.partial(construct, path)
            for backward in (False, True):
                yield _Case(
                    "construction",
                    path,
                    num_classes,
                    backward,
                    region_flops(*size, num_classes, path, backward),
                    with_gradient(on_path, len(maps)) if backward else on_path,
                    maps,
                )
    maps = SCENES[scene](size, classes[0])
    labels, score = jax.jit(functools.partial(construct, "streaming"))(*maps)
    features = jax.random.normal(jax.random.key(0), (n, CHANNELS))
    for backward in (False, True):
        function = functools.partial(interact, labels)
        yield _Case(
            "interaction",
            "blocks",
            None,
            backward,
            interaction_flops(n, backward),
            with_gradient(function, 2) if backward else function,
            (score, features),
        )
    yield _Case(
        "both",
        "streaming",
        classes[0],
        True,
        region_flops(*size, classes[0], "streaming", True) + interaction_flops(n, True),
        with_gradient(functools.partial(construct_and_interact, "streaming"), 4),
        (*maps, features),
    )


def _cells(size: tuple[int, int], num_classes: int) -> tuple[Array, Array, Array]:
    """Boundary and category probabilities of cells of about 10 x 10 pixels, and W^g."""
    rng = np.random.default_rng(0)
    y, x = (np.arange(length) for length in size)
    cells = (y // 10)[:, None] * (size[1] // 10 + 1) + (x // 10)[None]
    scores = rng.normal(size=(cells.max() + 1, num_classes))[cells]
    scores = 3 * scores + rng.normal(scale=0.1, size=scores.shape)
    edge = (y % 10 == 9)[:, None] | (x % 10 == 9)[None]
    boundary = np.where(edge, 0.9, 0.05) * rng.uniform(0.9, 1, size=size)
    probabilities = jax.nn.softmax(jnp.asarray(scores, jnp.float32))
    return jnp.asarray(boundary, jnp.float32), probabilities, jnp.ones((1, 1), jnp.float32)


def _uniform(size: tuple[int, int], num_classes: int) -> tuple[Array, Array, Array]:
    """Maps of one region: hardly any boundary, and all categories equally probable."""
    probabilities = jnp.full((*size, num_classes), 1 / num_classes, jnp.float32)
    return jnp.full(size, 0.05, jnp.float32), probabilities, jnp.ones((1, 1), jnp.float32)


SCENES = {"cells": _cells, "uniform": _uniform}


def regions_report(costs: Sequence[RegionCost], size: tuple[int, int], scene: str) -> str:
    """Markdown: one row per case, how streaming compares with dense, and the least arithmetic."""
    header = ("part", "path", "categories", "pass", "compile (s)", "run (s)", "temporary (MB)")
    rows = []
    for cost in costs:
        measured = cost.measured
        seconds = measured.run_seconds
        rows.append(
            (
                cost.part,
                cost.path,
                "-" if cost.num_classes is None else str(cost.num_classes),
                "forward + backward" if cost.backward else "forward",
                f"{measured.compile_seconds:.1f}",
                "-" if seconds is None else f"{seconds:.3g}",
                f"{measured.temp_bytes / 1e6:.1f}",
                "-" if measured.xla_flops is None else f"{measured.xla_flops / 1e9:.3g}",
                f"{cost.flops / 1e9:.3g}",
            )
        )
    notes = (
        f"Features of {size[0]} x {size[1]} pixels and {CHANNELS} channels, {NUM_REGIONS} regions"
        f" of {PER_REGION} representatives, one image ({scene}), float32, on"
        f" {jax.default_backend().upper()}."
        " Temporary memory is what XLA plans between arguments and results; a case that plans"
        " more than three quarters of the device's memory is not run.",
        "GFLOP by XLA counts the body of a loop once. GFLOP by formula counts element-wise"
        " operations of the construction, a logarithm as one, and two for each multiply-add of the"
        " interaction.",
        f"The construction has {pair_count(*size):,} pairs of pixels and {sample_count(*size):,}"
        " samples on the segments between them; one streaming pass computes"
        " {:,} and {:,}, padding included.".format(*streaming_counts(*size)),
    )
    paragraphs = [table((*header, "GFLOP by XLA", "by formula"), rows), *_comparisons(costs)]
    return "\n\n".join([*paragraphs, *(textwrap.fill(note, 100) for note in notes)])


def _comparisons(costs: Sequence[RegionCost]) -> Iterator[str]:
    """One line for each case that was measured on both paths."""
    lines = []
    for one in costs:
        for other in costs:
            same = (one.num_classes, one.backward) == (other.num_classes, other.backward)
            if not (same and one.part == other.part == "construction"):
                continue
            if (one.path, other.path) != ("streaming", "dense"):
                continue
            memory = other.measured.temp_bytes / max(one.measured.temp_bytes, 1)
            seconds = one.measured.run_seconds, other.measured.run_seconds
            speed = ""
            if seconds[0] is not None and seconds[1] is not None:
                speed = f" and {seconds[1] / seconds[0]:.1f} times the time"
            direction = "forward + backward" if one.backward else "forward"
            lines.append(
                f"{one.num_classes} categories, {direction}: dense takes {memory:.0f} times the"
                f" memory{speed} of streaming."
            )
    if lines:
        yield "\n".join(lines)


def regions_results(
    costs: Sequence[RegionCost], size: tuple[int, int], scene: str
) -> dict[str, Any]:
    """Plain dictionary of the costs, with a description of what was measured."""
    return {
        "size": list(size),
        "scene": scene,
        "channels": CHANNELS,
        "num_regions": NUM_REGIONS,
        "per_region": PER_REGION,
        "backend": jax.default_backend(),
        "jax": jax.__version__,
        "pairs": pair_count(*size),
        "samples": sample_count(*size),
        "costs": [dataclasses.asdict(cost) for cost in costs],
    }
