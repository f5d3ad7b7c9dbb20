"""`ranet bench export`: time a model in the runtimes of its exports, and `Model.predict`."""

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from ranet_jax.bench.measure import Timing
from ranet_jax.display.progress import track
from ranet_jax.display.tables import table
from ranet_jax.errors import UserError, check_counts
from ranet_jax.files import paths
from ranet_jax.inference.export import export, find_format
from ranet_jax.inference.export.comparison import scenes
from ranet_jax.inference.model import load

PREDICT = "predict"


@dataclasses.dataclass(frozen=True)
class RuntimeCost:
    """The time of a prediction in a runtime.

    Attributes:
      format: format of the export; "predict" for `Model.predict` itself.
      runtime: the runtime that runs it.
      timing: seconds in a fresh process from loading to the end of the first prediction, and the
        seconds of further predictions, one image each.
    """

    format: str
    runtime: str
    timing: Timing


def measure_exports(
    path: paths.Path, formats: Sequence[str], size: tuple[int, int], repeats: int
) -> list[RuntimeCost]:
    """Export a model, and time each file in a separate process, one after the other.

    Args:
      path: what `load` reads.
      formats: names of export formats of programs.
      size: (H, W) of the image in pixels.
      repeats: timed predictions after the first.

    Raises:
      UserError: a number is not from 1 to 32,768, a format is not known or cannot carry the model,
        or a process fails.
    """
    check_counts({"height": size[0], "width": size[1], "number of predictions": repeats})
    chosen = [find_format(name) for name in formats]
    model = load(path)
    with tempfile.TemporaryDirectory(prefix="ranet_jax_") as scratch:
        place = pathlib.Path(scratch)
        np.save(place / "images.npy", scenes(1, size))
        files = {}
        for each in track(chosen, unit="format", desc="export"):
            files[each.name] = place / f"{each.name}{each.suffix}"
            export(model, files[each.name], each.name, size)
        with paths.local_copy(path) as run:
            cases = [(PREDICT, "ranet_jax", run)]
            cases += [(each.name, each.runtime, files[each.name]) for each in chosen]
            return [
                RuntimeCost(name, runtime, _time(name, file, place / "images.npy", repeats))
                for name, runtime, file in track(cases, unit="runtime", desc="time")
            ]


def _time(name: str, file: pathlib.Path, images: pathlib.Path, repeats: int) -> Timing:
    command = [sys.executable, "-m", "ranet_jax.bench.runtime_process"]
    finished = subprocess.run(
        [*command, name, str(file), str(images), str(repeats)], capture_output=True, text=True
    )
    if finished.returncode != 0:
        last = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"The process that times {name} failed: {last.rstrip('.')}.")
    found = json.loads(finished.stdout.splitlines()[-1])
    return Timing(name, 1, found["first_seconds"], tuple(found["seconds"]))


def exports_report(costs: Sequence[RuntimeCost], path: paths.Path, size: tuple[int, int]) -> str:
    """Markdown: one row per runtime."""
    rows = [
        (
            each.format,
            each.runtime,
            f"{each.timing.first_seconds:.2f}",
            f"{1e3 * each.timing.median_seconds:.1f}",
            f"{1e3 * min(each.timing.seconds):.1f}-{1e3 * max(each.timing.seconds):.1f}",
        )
        for each in costs
    ]
    header = ("format", "runtime", "first (s)", "image (ms)", "range (ms)")
    return (
        f"{path.name}, one image of {size[0]} x {size[1]} pixels, {os.cpu_count()} cores"
        f" ({platform.machine()}). Each runtime is timed in a separate process: first, loading the"
        " runtime and the file and the first prediction, with any compilation; then the median of"
        f" {len(costs[0].timing.seconds)} predictions.\n\n{table(header, rows)}"
    )


def exports_results(
    costs: Sequence[RuntimeCost], path: paths.Path, size: tuple[int, int]
) -> dict[str, Any]:
    """Plain dictionary of what `exports_report` shows."""
    return {
        "model": path.name,
        "size": list(size),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "runtimes": [
            dataclasses.asdict(each) | {"median_seconds": each.timing.median_seconds}
            for each in costs
        ],
    }
