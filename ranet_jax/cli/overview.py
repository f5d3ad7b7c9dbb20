"""The output of `ranet` without a command: what this folder holds, and what to do with it next."""

import contextlib
import dataclasses
import pathlib

from ranet_jax.config_files import packaged_config
from ranet_jax.files import numbered_names, read_json
from ranet_jax.files.paths import Path, find_in_each, is_dir, list_names
from ranet_jax.pipeline.examples import DESCRIPTION

# Where in the folder to look for runs and ported weights.
PLACES = (".", "runs", "weights")
MOST = 8


@dataclasses.dataclass(frozen=True)
class Run:
    """A working directory: its last step, and the number of steps in its config, if known."""

    path: str
    step: int
    steps: int | None


@dataclasses.dataclass(frozen=True)
class Overview:
    """Prepared data sets, runs and ported weights, and the next commands."""

    data_dir: str
    data_sets: list[str]
    runs: list[Run]
    ported_weights: list[str]
    next_commands: list[str]

    def text(self) -> str:
        """One line for each kind, and the next commands."""
        found = [
            (f"data sets in {self.data_dir}", self.data_sets),
            ("runs", [f"{run.path} ({_progress(run)})" for run in self.runs]),
            ("ported weights", self.ported_weights),
        ]
        lines = []
        for title, names in found:
            more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
            lines.append(f"{title}: {', '.join(names[:MOST]) + more if names else 'none'}")
        lines += ["", "next:", *(f"  {command}" for command in self.next_commands)]
        lines += ["", "`ranet --help` lists all commands; `ranet COMMAND --help` has examples."]
        return "\n".join(lines)


def look_around(folder: pathlib.Path, data_dir: Path) -> Overview:
    """Find what a folder and a directory of data sets hold, and what to do next.

    Args:
      folder: where the commands would be typed.
      data_dir: TFDS's directory.

    Raises:
      OSError: a directory cannot be read.
    """
    data, runs = _prepared(data_dir), _runs(folder)
    return Overview(str(data_dir), data, runs, _ported(folder), _next(data, runs))


def _next(data: list[str], runs: list[Run]) -> list[str]:
    """Commands that continue from what was found."""
    if runs:
        newest = runs[0].path
        return [
            f"ranet evaluate {newest}",
            f"ranet predict {newest} PHOTO_OR_VIDEO --output predictions",
            f"ranet explore {newest}",
        ]
    if data:
        has_config = packaged_config(f"{data[0]}.py").is_file()
        what = f"--config configs/{data[0]}.py" if has_config else f"--data {data[0]} --minutes 30"
        return [f"ranet train {what} --workdir runs/{data[0]}"]
    return [
        "ranet prepare shapes",
        "ranet prepare folder --source DIR --name NAME    (images and masks of your own)",
    ]


def _prepared(data_dir: Path) -> list[str]:
    """Names of data sets that are completely prepared."""
    names = sorted(list_names(data_dir)) if is_dir(data_dir) else []
    return [name for name in names if find_in_each(data_dir / name, DESCRIPTION)]


def _runs(folder: pathlib.Path) -> list[Run]:
    """Working directories, the most recently written one first."""
    found = []
    for place in PLACES:
        for path in find_in_each(folder / place, "checkpoints"):
            steps = numbered_names(path)
            if steps:
                run = path.parent
                found.append((path.stat().st_mtime, str(run.relative_to(folder)), run, steps[-1]))
    return [Run(name, step, _steps(run)) for _, name, run, step in sorted(found, reverse=True)]


def _steps(run: pathlib.Path) -> int | None:
    """The number of steps in the config of a run; None if the config does not say."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        steps = read_json(run / "config.json")["train"]["steps"]
        return steps if isinstance(steps, int) else None
    return None


def _progress(run: Run) -> str:
    return f"step {run.step}" if run.steps is None else f"step {run.step} of {run.steps}"


def _ported(folder: pathlib.Path) -> list[str]:
    paths = [path for place in PLACES for path in find_in_each(folder / place, "port.json")]
    return sorted(str(path.parent.relative_to(folder)) for path in paths)
