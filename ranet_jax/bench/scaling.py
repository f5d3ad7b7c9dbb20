"""The time of a step's exchanges between chips of a TPU slice, from public figures of its links.

This is a model, not a measurement: it assumes that the exchanges follow the computation, one after
another. Where the compiler overlaps them, a step is faster than that.
"""

import dataclasses
import math

from ranet_jax.bench.compiled import Compiled
from ranet_jax.bench.programs import Program
from ranet_jax.bench.targets import Target

# Seconds that a message takes from a chip to its neighbour, however short it is ("How to scale
# your model", Austin et al., 2025, chapter on TPUs).
HOP_SECONDS = 1e-6


@dataclasses.dataclass(frozen=True)
class Interconnect:
    """Chips of a generation and the links between them, from Google Cloud's pages about them.

    Attributes:
      clock_hertz: cycles per second, derived from the peak in bfloat16 and the 128 x 128
        multipliers of its cores.
      link_bytes: bytes per second of one link in one direction.
      closes: a side of the slice is a ring if its length is a multiple of this, else a line.
    """

    clock_hertz: float
    link_bytes: float
    closes: int


INTERCONNECTS = {
    "v4": Interconnect(275e12 / (8 * 2 * 128**2), 50e9, 4),
    "v5e": Interconnect(197e12 / (4 * 2 * 128**2), 50e9, 16),
    "v5p": Interconnect(459e12 / (8 * 2 * 128**2), 100e9, 4),
}


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Seconds of a step, and the share of a chip's speed that is left in a slice of many."""

    computation_seconds: float
    exchange_seconds: float

    @property
    def efficiency(self) -> float:
        """Share of computation in a step: images per second and chip, relative to a single chip."""
        return self.computation_seconds / (self.computation_seconds + self.exchange_seconds)


def scaling(compiled: Compiled, target: Target) -> Scaling | None:
    """What exchanges add to a compiled step; None for one chip, or if figures are missing."""
    links, program = INTERCONNECTS.get(target.generation), compiled.program
    if links is None or program is None or program.estimated_cycles is None:
        return None
    if len(target.devices) == 1:
        return None
    seconds = exchange_seconds(program, target.sides, links)
    return Scaling(program.estimated_cycles / links.clock_hertz, seconds)


def exchange_seconds(program: Program, sides: tuple[int, ...], links: Interconnect) -> float:
    """Seconds of a program's sums over all chips, one after another.

    A sum over N chips moves 2 (N - 1) / N of its bytes through a chip, shared by the sides of the
    slice. A ring carries them in both directions at once, a line only as fast as in one. Latency
    adds a trip along every side and back: half of a ring each way, or the whole line.

    Args:
      program: program of one chip; its exchanges of every kind count as sums.
      sides: chips along each side of the slice.
      links: links of the slice's generation.
    """
    count = sum(each.count for each in program.collectives.values())
    moved = sum(each.bytes for each in program.collectives.values())
    sides = tuple(side for side in sides if side > 1)
    rings = [side % links.closes == 0 for side in sides]
    rate = sum(links.link_bytes * (2 if ring else 1) for ring in rings)
    hops = sum(side if ring else 2 * (side - 1) for side, ring in zip(sides, rings, strict=True))
    chips = math.prod(sides)
    return moved * 2 * (chips - 1) / chips / rate + count * hops * HOP_SECONDS


def cells(found: Scaling | None) -> dict[str, str]:
    """Figures as a table shows them, by the names of its columns; none if there is no model."""
    if found is None:
        return {}
    return {
        "computation (ms)": f"{1e3 * found.computation_seconds:.1f}",
        "exchanges, modelled (ms)": f"{1e3 * found.exchange_seconds:.1f}",
        "efficiency, modelled": f"{100 * found.efficiency:.1f} %",
    }


NOTE = (
    "Modelled: computation is the estimated cycles at the chip's clock; exchanges follow it, one"
    " after another, at the public rates of the links and a microsecond from chip to chip."
    " Efficiency is the share of computation in the sum of both."
)
