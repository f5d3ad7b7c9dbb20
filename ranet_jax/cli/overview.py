"""What `ranet` alone prints: what there is in this folder, and what one can do with it next."""

import contextlib
import pathlib

from ranet_jax.config_files import packaged_config
from ranet_jax.files import numbered_names, read_json
from ranet_jax.files.paths import Path, find_in_each, is_dir, list_names
from ranet_jax.pipeline.examples import DESCRIPTION

# Where runs and ported weights are looked for, besides the folder itself.
PLACES = (".", "runs", "weights")
MOST = 8


def overview(folder: pathlib.Path, data_dir: Path) -> str:
    """Prepared data sets, runs and ported weights, and the next commands.

    Args:
      folder: where the commands would be typed.
      data_dir: TFDS's directory.

    Raises:
      OSError: a directory cannot be read.
    """
    data, runs, weights = _prepared(data_dir), _runs(folder), _ported(folder)
    found = [
        (f"data sets in {data_dir}", data),
        ("runs", [f"{path} ({steps})" for path, steps in runs.items()]),
        ("ported weights", weights),
    ]
    lines = []
    for title, names in found:
        more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
        lines.append(f"{title}: {', '.join(names[:MOST]) + more if names else 'none'}")
    lines += ["", "next:", *(f"  {command}" for command in _next(data, list(runs)))]
    lines += ["", "`ranet --help` lists all commands; `ranet COMMAND --help` has examples."]
    return "\n".join(lines)


def _next(data: list[str], runs: list[str]) -> list[str]:
    """Commands that go on from what there is."""
    if runs:
        return [
            f"ranet evaluate {runs[0]}",
            f"ranet predict {runs[0]} PHOTO --output predictions",
            f"ranet explore {runs[0]}",
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
    """Names of data sets that are prepared to their end."""
    names = sorted(list_names(data_dir)) if is_dir(data_dir) else []
    return [name for name in names if find_in_each(data_dir / name, DESCRIPTION)]


def _runs(folder: pathlib.Path) -> dict[str, str]:
    """Working directories with how far they are, the one that was written last first."""
    found = []
    for place in PLACES:
        for path in find_in_each(folder / place, "checkpoints"):
            steps = numbered_names(path)
            if steps:
                run = path.parent
                found.append((path.stat().st_mtime, str(run.relative_to(folder)), run, steps[-1]))
    return {name: _progress(run, step) for _, name, run, step in sorted(found, reverse=True)}


def _progress(run: pathlib.Path, step: int) -> str:
    """How far a run is, of as many steps as its config says."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return f"step {step} of {read_json(run / 'config.json')['train']['steps']:d}"
    return f"step {step}"


def _ported(folder: pathlib.Path) -> list[str]:
    paths = [path for place in PLACES for path in find_in_each(folder / place, "port.json")]
    return sorted(str(path.parent.relative_to(folder)) for path in paths)
