"""Compile a function, measure its cost, and write results to a file."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ranet_jax.errors import UserError
from ranet_jax.files import write_json
from ranet_jax.training.timing import timed

ENOUGH_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What compiling a function took and, if it ran, the shortest time of a run.

    `temp_bytes` is the memory XLA plans for values between arguments and results; on the CPU it
    leaves out the scratch of convolutions. `xla_flops` is XLA's own count, in which the body of a
    loop may count once whatever its length; None if the back end gives no count. A persistent
    compilation cache shortens `compile_seconds`.
    """

    compile_seconds: float
    run_seconds: float | None
    temp_bytes: int
    xla_flops: float | None


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of a first run, which compiles, and of the runs after it, for a number of images."""

    name: str
    images: int
    first_seconds: float
    seconds: tuple[float, ...]

    @property
    def median_seconds(self) -> float:
        """Median of the runs after the first."""
        return statistics.median(self.seconds)

    @property
    def images_per_second(self) -> float:
        """Images per second, by the median time."""
        return self.images / self.median_seconds


def compile_and_measure(
    function: Callable[..., Any],
    *arguments: Any,
    repeats: int = 0,
    memory_limit: int | None = None,
) -> Measurement:
    """Compile a function for its arguments and time at most `repeats` runs.

    After `ENOUGH_SECONDS` no further run begins. A function for which more than `memory_limit`
    bytes of temporary memory are planned is not run. To compile only, arguments may be
    `jax.ShapeDtypeStruct`s.
    """
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    memory: Any = compiled.memory_analysis()
    temp_bytes = memory.temp_size_in_bytes
    fits = memory_limit is None or temp_bytes <= memory_limit
    costs: Any = compiled.cost_analysis() or {}
    return Measurement(
        compile_seconds=compile_seconds,
        run_seconds=_best_run(compiled, arguments, repeats) if fits else None,
        temp_bytes=temp_bytes,
        xla_flops=costs.get("flops"),
    )


def _best_run(compiled: Callable[..., Any], arguments: Sequence[Any], repeats: int) -> float | None:
    runs: list[float] = []
    while len(runs) < repeats and sum(runs) < ENOUGH_SECONDS:
        runs.append(timed(lambda: jax.block_until_ready(compiled(*arguments)))[0])
    return min(runs, default=None)


def write_results(path: str | os.PathLike[str], results: Any) -> None:
    """Write results as JSON in one step.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        write_json(path, results)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); choose another file."
        ) from error
