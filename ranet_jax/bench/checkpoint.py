"""`ranet bench checkpoint`: time of saving and loading a training state, and of its checksums."""

import dataclasses
import os
import pathlib
import statistics
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from ml_collections import ConfigDict

from ranet_jax.checkpoints.manifests import find_damage, write_manifest
from ranet_jax.checkpoints.steps import Manager, read_state
from ranet_jax.display.tables import table
from ranet_jax.errors import UserError, check_counts
from ranet_jax.files import reason
from ranet_jax.files.paths import as_path, is_store
from ranet_jax.models import build_model
from ranet_jax.training.optimizer import build_optimizer
from ranet_jax.training.step import TrainState, create_state
from ranet_jax.training.timing import timed


@dataclasses.dataclass(frozen=True)
class CheckpointCost:
    """Bytes of a checkpoint's arrays, and seconds of each run.

    `save` and `load` include the checksums; `write_checksums` and `compare_checksums` are for the
    checksums alone, of the same files right afterwards.
    """

    state_bytes: int
    save: tuple[float, ...]
    write_checksums: tuple[float, ...]
    load: tuple[float, ...]
    compare_checksums: tuple[float, ...]


def measure_checkpoint(
    config: ConfigDict,
    num_classes: int,
    repeats: int = 5,
    directory: str | os.PathLike[str] | None = None,
) -> CheckpointCost:
    """Save and load a config's training state of random numbers, each `repeats` times.

    Args:
      config: an experiment.
      num_classes: categories of its data.
      repeats: number of saves and of loads.
      directory: where to write and remove the checkpoints (default: the system's for temporary
        files).

    Raises:
      UserError: `repeats` is not from 1 to 32,768, or there is no room for the checkpoint.
    """
    check_counts({"number of repeats": repeats})
    if directory is not None:
        directory = as_path(directory)
        if is_store(directory):
            raise UserError(
                f"{directory} is on an object store, to which checkpoints are copied from a disk;"
                " name a local directory."
            )
    state = random_state(config, num_classes)
    runs: list[tuple[float, float, float, float]] = []
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix="checkpoint_") as place:
            for step in range(repeats):
                runs.append(_save_and_load(pathlib.Path(place), step, state))
    except OSError as error:
        raise UserError(
            f"The checkpoints cannot be written ({reason(error)}); choose another directory."
        ) from error
    return CheckpointCost(sum(x.nbytes for x in jax.tree.leaves(state)), *zip(*runs, strict=True))


def random_state(config: ConfigDict, num_classes: int) -> dict[str, Any]:
    """State dictionary as training saves it, with normal random numbers for its float arrays."""

    def create(rng: jax.Array) -> TrainState:
        variables = build_model(config, num_classes).init(
            rng, jnp.zeros((1, *config.data.crop_size, 3))
        )
        optimizer, _ = build_optimizer(config.optimizer, config.train.steps, variables["params"])
        return create_state(variables, optimizer, rng, config.optimizer.ema_decay is not None)

    rng = np.random.default_rng(0)

    def fill(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype)
        return np.zeros(leaf.shape, leaf.dtype)

    shapes = jax.eval_shape(create, jax.random.PRNGKey(0))
    return serialization.to_state_dict(jax.tree.map(fill, shapes))


def _save_and_load(
    place: pathlib.Path, step: int, state: dict[str, Any]
) -> tuple[float, float, float, float]:
    def save(manager: Manager) -> None:
        manager.save(step, state)
        manager.wait_until_finished()

    with Manager(place / "checkpoints", keep=1) as manager:
        saving, _ = timed(lambda: save(manager))
    path = place / "checkpoints" / str(step)
    loading, _ = timed(lambda: read_state(path))
    writing, _ = timed(lambda: write_manifest(path))
    comparing, _ = timed(lambda: find_damage(path))
    return saving, writing, loading, comparing


def checkpoint_report(cost: CheckpointCost) -> str:
    """Markdown: seconds of saving and loading, and the checksums' part of them."""
    rows = []
    for name, whole, checksums in (
        ("save", cost.save, cost.write_checksums),
        ("load", cost.load, cost.compare_checksums),
    ):
        share = statistics.median(checksums) / statistics.median(whole)
        rows.append([name, _seconds(whole), _seconds(checksums), f"{100 * share:.0f} %"])
    header = ("checkpoint", "seconds", "seconds for checksums", "share of the median")
    return (
        f"{table(header, rows)}\n\n{cost.state_bytes / 1e6:.0f} MB of arrays; timed on this"
        f" machine, lowest, median and highest of {len(cost.save)}."
    )


def _seconds(runs: tuple[float, ...]) -> str:
    return f"{min(runs):.2f}, {statistics.median(runs):.2f}, {max(runs):.2f}"


def checkpoint_results(cost: CheckpointCost) -> dict[str, Any]:
    """Plain dictionary of the figures."""
    return dataclasses.asdict(cost)
