"""`ranet bench regions --target`: the two blocks, compiled for a machine that is not there."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ranet_jax.bench.compiled import (
    Compiled,
    cells,
    compile_lowered,
    notes,
    results,
    target_results,
)
from ranet_jax.bench.region_blocks import (
    CHANNELS,
    NUM_REGIONS,
    PER_REGION,
    construct,
    construct_and_interact,
    interact,
    with_gradient,
)
from ranet_jax.bench.targets import Target
from ranet_jax.display.progress import track
from ranet_jax.display.tables import table
from ranet_jax.errors import check_counts


@dataclasses.dataclass(frozen=True)
class BlockCost:
    """A block on a region path, and what the compiler makes of it for a batch of images."""

    part: str
    path: str
    num_classes: int | None
    backward: bool
    compiled: Compiled

    @property
    def name(self) -> str:
        """The block in words, as in the first column of a table."""
        words = [self.part] if self.part == "interaction" else [self.part, self.path]
        words += [] if self.num_classes is None else [f"c = {self.num_classes}"]
        return ", ".join([*words, "forward + backward" if self.backward else "forward"])


@dataclasses.dataclass(frozen=True)
class _Case:
    part: str
    path: str
    num_classes: int | None
    backward: bool
    function: Callable[..., Any]
    arguments: tuple[jax.ShapeDtypeStruct, ...]


PARTS = ("construction", "both", "interaction")


def compile_regions(
    target: Target,
    size: tuple[int, int],
    classes: Sequence[int],
    paths: Sequence[str],
    batch: int,
    parts: Sequence[str] = PARTS,
) -> list[BlockCost]:
    """Compile blocks for one device of `target`, with progress on standard error.

    Raises:
      UserError: a number is not from 1 to 32,768.
    """
    counts = {"height": size[0], "width": size[1], "number of images": batch}
    for number in classes:
        check_counts(counts | {"number of categories": number})
    costs = []
    cases = [case for case in _cases(size, classes, paths, batch) if case.part in parts]
    for case in track(cases, unit="case", desc="bench"):
        with jax.set_mesh(target.mesh(1)):
            lowered = jax.jit(case.function).lower(*case.arguments)
            compiled = compile_lowered(lowered, target)
        costs.append(BlockCost(case.part, case.path, case.num_classes, case.backward, compiled))
    return costs


def _cases(
    size: tuple[int, int], classes: Sequence[int], paths: Sequence[str], batch: int
) -> Iterator[_Case]:
    n = size[0] * size[1]
    features = jax.ShapeDtypeStruct((batch, n, CHANNELS), jnp.float32)
    for path in paths:
        for num_classes in classes:
            boundary = jax.ShapeDtypeStruct((batch, *size), jnp.float32)
            probabilities = jax.ShapeDtypeStruct((batch, *size, num_classes), jnp.float32)
            maps = (boundary, probabilities, jax.ShapeDtypeStruct((1, 1), jnp.float32))
            construction = jax.vmap(functools.partial(construct, path), (0, 0, None))
            together = jax.vmap(functools.partial(construct_and_interact, path), (0, 0, None, 0))
            for part, function, arguments in (
                ("construction", construction, maps),
                ("both", together, (*maps, features)),
            ):
                yield _Case(part, path, num_classes, False, function, arguments)
                backward = with_gradient(function, len(arguments))
                yield _Case(part, path, num_classes, True, backward, arguments)
    labels = jax.ShapeDtypeStruct((batch, n), jnp.int32)
    score = jax.ShapeDtypeStruct((batch, n), jnp.float32)
    interaction = jax.vmap(interact)
    yield _Case("interaction", "blocks", None, False, interaction, (labels, score, features))

    def teach(labels: Array, score: Array, features: Array) -> Any:
        return with_gradient(functools.partial(interaction, labels), 2)(score, features)

    yield _Case("interaction", "blocks", None, True, teach, (labels, score, features))


def regions_report(
    costs: Sequence[BlockCost], size: tuple[int, int], batch: int, target: Target
) -> str:
    """Markdown: one row per block, then how the figures were obtained."""
    columns = [cells(cost.compiled, target) for cost in costs]
    # One device has no collectives, and no result here is updated in place.
    header = [
        title
        for title in columns[0]
        if title not in ("collectives", "their bytes (MB)", "updated in place (MB)")
    ]
    rows = [
        (cost.name, *(column[title] for title in header))
        for cost, column in zip(costs, columns, strict=True)
    ]
    opening = (
        f"A batch of {batch}, {size[0]} x {size[1]} pixels and {CHANNELS} channels per image,"
        f" {NUM_REGIONS} regions of {PER_REGION} representatives, float32, on one device of"
        f" {target.name} ({target.device_kind})."
    )
    named = [(cost.name, cost.compiled) for cost in costs]
    return "\n\n".join([opening, table(("block", *header), rows), notes(named, target)])


def regions_results(
    costs: Sequence[BlockCost], size: tuple[int, int], batch: int, target: Target
) -> dict[str, Any]:
    """Plain dictionary of the costs, the target and what was compiled for it."""
    return {
        "target": target_results(target),
        "size": list(size),
        "batch": batch,
        "channels": CHANNELS,
        "num_regions": NUM_REGIONS,
        "per_region": PER_REGION,
        "costs": [
            {
                "part": cost.part,
                "path": cost.path,
                "num_classes": cost.num_classes,
                "backward": cost.backward,
                **results(cost.compiled),
            }
            for cost in costs
        ],
    }
