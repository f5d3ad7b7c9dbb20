"""Working directories, Orbax checkpoints and exported models.

A working directory holds `config.json`, `dataset.json`, `metrics.jsonl`, `tensorboard/` and
`checkpoints/STEP/`. An exported model holds `config.json`, `dataset.json` and `variables/`.
Orbax writes under a temporary name and renames at the end, so that a checkpoint which was cut
off is never picked up.
"""

import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple, TypeVar

import flax.serialization
import flax.traverse_util
import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from ranet_jax.config import changed_fields, config_from_json, config_to_json
from ranet_jax.errors import UserError
from ranet_jax.files import new_directory, read_json, write_json
from ranet_jax.pipeline.metadata import DatasetMetadata

Path = str | os.PathLike[str]
State = TypeVar("State")


def prepare_workdir(workdir: Path, config: ConfigDict, dataset: DatasetMetadata) -> None:
    """Make the working directory of a config, or see that it is this config's already.

    Fields that change nothing of what the steps from the checkpoint on compute, but for rounding,
    may differ: those of effect "scores" or "running". A field that is younger than the directory
    had its default then. A directory without a finished checkpoint holds nothing to protect and is
    described anew.

    Raises:
      UserError: the directory belongs to another config or data set, or cannot be made.
    """
    directory = pathlib.Path(workdir)
    if has_checkpoint(directory):
        made_with, made_for = _describe(directory)
        names = changed_fields(made_with, config, "weights", "training")
        if names:
            raise UserError(
                f"{directory} was made with another config ({', '.join(names)} differ); choose"
                " another --workdir or the config it was made with."
            )
        if made_for != dataset:
            raise UserError(
                f"{directory} was made with another version of data set {dataset.name!r}; choose"
                " another --workdir."
            )
        return
    if jax.process_index() == 0:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"Directory {directory} cannot be made ({error.strerror}); choose another"
                " --workdir."
            ) from error
        describe(directory, config, dataset)


def has_checkpoint(workdir: Path) -> bool:
    """Whether a checkpoint is finished: Orbax renames it to its bare step last."""
    return any(path.name.isdigit() for path in (pathlib.Path(workdir) / "checkpoints").glob("*"))


def _miou(metrics: Any) -> float:
    return metrics["miou"]


def open_manager(workdir: Path, keep: int, read_only: bool = False) -> ocp.CheckpointManager:
    """Manager that saves asynchronously and keeps the latest `keep` and the best by mIoU.

    Only a manager that writes removes what a cut-off save left: a reader may look on while
    training goes on.
    """
    policy = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(
                get_metric_fn=_miou, n=1, keep_checkpoints_without_metrics=False
            ),
        ]
    )
    return ocp.CheckpointManager(
        pathlib.Path(workdir).absolute() / "checkpoints",
        options=ocp.CheckpointManagerOptions(
            best_fn=_miou,
            preservation_policy=policy,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            save_interval_steps=0 if read_only else 1,
            read_only=read_only,
        ),
    )


def save(manager: ocp.CheckpointManager, step: int, state: Any, miou: float | None = None) -> None:
    """Start saving a training state; the copy to the host is made before this returns.

    The copy is what Orbax gets, since it refuses the arrays that pmap leaves on one process.
    """
    fields = flax.serialization.to_state_dict(jax.device_get(state))
    manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(fields)),
        metrics=None if miou is None else {"miou": miou},
        force=True,
    )


def restore(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """State dictionary, of NumPy arrays, of the checkpoint of a step.

    Raises:
      UserError: the checkpoint cannot be read.
    """
    try:
        restored = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"Checkpoint {manager.directory / str(step)} cannot be read"
            f" ({str(error).splitlines()[0]}); delete it to fall back on an older one."
        ) from error
    return restored["state"]


def restore_latest(manager: ocp.CheckpointManager, state: State) -> State:
    """The latest checkpoint in the form of `state`, or `state` itself if there is none.

    Raises:
      UserError: the checkpoint cannot be read or is of another network or optimiser.
    """
    step = manager.latest_step()
    if step is None:
        return state
    fields = restore(manager, step)
    template = flax.serialization.to_state_dict(state)
    check_same_arrays(template, fields, str(manager.directory / str(step)))
    return flax.serialization.from_state_dict(state, fields)


def check_same_arrays(template: Any, fields: Any, name: str) -> None:
    """Raise `UserError` unless two nested dictionaries hold arrays of the same paths and shapes."""
    expected, found = (
        {path: np.shape(x) for path, x in flax.traverse_util.flatten_dict(t, sep="/").items()}
        for t in (template, fields)
    )
    wrong = sorted(p for p in expected.keys() | found.keys() if expected.get(p) != found.get(p))
    if wrong:
        path = wrong[0]
        raise UserError(
            f"{name} does not fit the network: {len(wrong)} arrays are missing, unexpected or of"
            f" another shape, first {path} ({found.get(path)} instead of {expected.get(path)})."
        )


class StoredModel(NamedTuple):
    """What a working directory or an exported model holds: variables are NumPy arrays."""

    config: ConfigDict
    dataset: DatasetMetadata
    variables: dict[str, Any]
    step: int | None


def load_variables(path: Path, use_ema: bool = True) -> StoredModel:
    """Read a trained or exported model.

    Args:
      path: a working directory (its best checkpoint by mIoU, or else the latest), one checkpoint
        `WORKDIR/checkpoints/STEP`, or an exported model (whose step is None).
      use_ema: take the moving average of the parameters where training kept one.

    Raises:
      UserError: there is no checkpoint, or it cannot be read.
    """
    path = pathlib.Path(path).absolute()
    if (path / "variables").is_dir():
        config, dataset = _describe(path)
        return StoredModel(config, dataset, read_variables(path / "variables"), None)
    is_step = path.parent.name == "checkpoints" and path.name.isdigit()
    workdir = path.parent.parent if is_step else path
    if not (workdir / "checkpoints").is_dir() or (is_step and not path.is_dir()):
        raise UserError(
            f"{path} holds no checkpoint; name a working directory of `ranet train`, one of its"
            " checkpoints/STEP, or an exported model."
        )
    config, dataset = _describe(workdir)
    with open_manager(workdir, config.train.keep_checkpoints, read_only=True) as manager:
        step = int(path.name) if is_step else manager.best_step()
        step = manager.latest_step() if step is None else step
        if step is None:
            raise UserError(f"{workdir} holds no finished checkpoint yet; train it further.")
        state = restore(manager, step)
    averaged = use_ema and state.get("ema_params") is not None
    variables = {
        "params": state["ema_params" if averaged else "params"],
        "batch_stats": state["batch_stats"],
    }
    return StoredModel(config, dataset, variables, step)


def _describe(directory: pathlib.Path) -> tuple[ConfigDict, DatasetMetadata]:
    try:
        config = config_from_json(read_json(directory / "config.json"))
    except UserError as error:
        raise UserError(f"The model in {directory} cannot be loaded: {error}") from error
    return config, DatasetMetadata.from_json(read_json(directory / "dataset.json"))


def read_variables(directory: pathlib.Path) -> dict[str, Any]:
    """NumPy arrays that `write_variables` wrote.

    Raises:
      UserError: they cannot be read.
    """
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(directory)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"{directory} cannot be read ({str(error).splitlines()[0]}); make it again."
        ) from error


def export(
    directory: Path, config: ConfigDict, dataset: DatasetMetadata, variables: dict[str, Any]
) -> None:
    """Write a model by itself: config, data set and variables.

    Raises:
      UserError: the directory exists already.
    """
    with new_directory(directory) as partial:
        write_variables(partial / "variables", variables)
        describe(partial, config, dataset)


def describe(directory: pathlib.Path, config: ConfigDict, dataset: DatasetMetadata) -> None:
    """Write the files that say what model a directory holds."""
    write_json(directory / "config.json", config_to_json(config))
    write_json(directory / "dataset.json", dataset.to_json())


def write_variables(directory: pathlib.Path, variables: dict[str, Any]) -> None:
    """Write arrays alone, as Orbax's standard checkpoint."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory, jax.device_get(variables))


def fingerprint(variables: Any, *description: Any) -> str:
    """SHA-256 of a network's arrays and of what else a result depends on, as JSON holds it."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for path, array in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
