"""Working directories, Orbax checkpoints and exported models.

A working directory holds `config.json`, `dataset.json`, `metrics.jsonl`, `tensorboard/` and
`checkpoints/STEP/`. An exported model holds `config.json`, `dataset.json`, `variables/` and
`manifest.json` with the checksums of the other files.
"""

import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.serialization
import flax.traverse_util
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from ranet_jax.checkpoints import steps
from ranet_jax.checkpoints.manifests import find_damage, write_manifest
from ranet_jax.checkpoints.workdirs import (
    describe,
    find_training,
    read_description,
    workdir_of,
)
from ranet_jax.config import changed_fields
from ranet_jax.errors import UserError
from ranet_jax.files import explained, make_directory, new_directory, paths, reason
from ranet_jax.pipeline.metadata import DatasetMetadata

Path = str | os.PathLike[str]
# Files of exported and ported networks that people may edit.
DESCRIPTIONS = frozenset({"config.json", "dataset.json", "port.json", "README.md"})
State = TypeVar("State")


def check_workdir(workdir: Path, config: ConfigDict, dataset: DatasetMetadata) -> None:
    """Check that a config may train in a directory, without writing anything.

    Fields of effect "scores" or "running" may differ, since apart from rounding they do not change
    what the steps after the checkpoint compute. A field that is newer than the directory counts as
    having had its default. A directory without a finished checkpoint holds nothing to protect, and
    its description is written again.

    Raises:
      UserError: the directory is not that of a training, or belongs to another config or data set.
    """
    directory = pathlib.Path(workdir)
    found = find_training(directory)
    if found is not None and has_checkpoint(directory):
        made_with, made_for = found
        names = changed_fields(made_with, config, "weights", "training")
        if names:
            raise UserError(
                f"{directory} was made with another config ({', '.join(names)} differ); choose"
                " another working directory or the config it was made with."
            )
        if made_for != dataset:
            raise UserError(
                f"{directory} was made with another version of data set {dataset.name!r}; choose"
                " another working directory."
            )


def prepare_workdir(workdir: Path, config: ConfigDict, dataset: DatasetMetadata) -> None:
    """Make the working directory of a config, or check that an existing one belongs to the config.

    Raises:
      UserError: `check_workdir` refuses the directory, or it cannot be made.
    """
    directory = pathlib.Path(workdir)
    check_workdir(directory, config, dataset)
    if jax.process_index() == 0 and not has_checkpoint(directory):
        make_directory(directory, "working directory")
        with explained(directory, "make room or choose another working directory"):
            describe(directory, config, dataset)


def has_checkpoint(workdir: Path) -> bool:
    """Whether there is a finished checkpoint; a step gets its final name only when it is done."""
    return bool(steps.finished_steps(paths.as_path(workdir) / "checkpoints"))


def open_manager(
    workdir: Path, keep: int, publish: Callable[[], None] = lambda: None
) -> steps.Manager:
    """Manager that saves asynchronously, as `steps.Manager` describes.

    It keeps the latest `keep` checkpoints and the best one by mIoU.
    """
    return steps.Manager(pathlib.Path(workdir).absolute() / "checkpoints", keep, publish)


def save(manager: steps.Manager, step: int, state: Any, miou: float | None = None) -> None:
    """Start saving a training state as `Manager.save` does, and record its score if it has one."""
    manager.save(step, state)
    if miou is not None:
        manager.record_score(step, miou)


def restore_latest(manager: steps.Manager, state: State) -> State:
    """The latest intact checkpoint in the form of `state`, or `state` itself if there is none.

    Damaged checkpoints that are later are named on standard error and renamed to `STEP.damaged`.
    If there are several hosts, the first one chooses the step.

    Raises:
      UserError: all checkpoints are damaged, the latest intact one belongs to another network or
        optimiser, or a host cannot read the one that the first host chose.
    """
    found: steps.Found | None = None
    error: UserError | None = None
    if jax.process_index() == 0:
        try:
            found = steps.find_whole(manager.directory, steps.newest_first)
        except UserError as refusal:
            error = refusal
    chosen = int(from_first_host(-2 if error else -1 if found is None else found.step))
    if error is not None:
        raise error
    if chosen == -2:
        raise UserError(f"The first host finds no intact checkpoint in {manager.directory}.")
    if chosen == -1:
        return state
    fields = found.state if found is not None else _read_chosen(manager.directory / str(chosen))
    _check_all_read(fields is not None, manager.directory / str(chosen))
    assert fields is not None
    template = flax.serialization.to_state_dict(state)
    check_same_arrays(template, fields, str(manager.directory / str(chosen)))
    if found is not None:
        manager.set_aside(found.damaged)
    return flax.serialization.from_state_dict(state, fields)


def from_first_host(number: int) -> int:
    """The first host's number, on all hosts."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def _read_chosen(path: pathlib.Path) -> dict[str, Any] | None:
    """State of the checkpoint that the first host chose; None if this host cannot read it."""
    try:
        return steps.read_state(path)
    except steps.DamagedError:
        return None


def _check_all_read(is_read: bool, path: pathlib.Path) -> None:
    """Raise `UserError` on every host unless all of them have read a checkpoint."""
    read = np.ravel(multihost_utils.process_allgather(np.int32(is_read)))
    if not read.all():
        hosts = ", ".join(map(str, np.flatnonzero(read == 0)))
        raise UserError(
            f"Checkpoint {path} cannot be read by process {hosts}, although process 0 can; make"
            " sure that all of them see the same directory, then run the same command again."
        )


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
            f" another shape; the first is {path} ({found.get(path)} instead of"
            f" {expected.get(path)})."
        )


class StoredModel(NamedTuple):
    """Contents of a working directory or an exported model; variables are NumPy arrays."""

    config: ConfigDict
    dataset: DatasetMetadata
    variables: dict[str, Any]
    step: int | None


def load_variables(path: Path, use_ema: bool = True) -> StoredModel:
    """Read a trained or exported model.

    Args:
      path: a working directory (its best checkpoint by mIoU, or else the latest), one checkpoint
        `WORKDIR/checkpoints/STEP`, or an exported model (whose step is None).
      use_ema: take the moving average of the parameters if training kept one.

    Raises:
      UserError: there is no checkpoint, or it cannot be read.
    """
    path = paths.absolute(paths.as_path(path))
    workdir = workdir_of(path)
    is_step = workdir != path
    is_export = paths.is_dir(path / "variables")
    if is_export and paths.is_dir(path / "checkpoints"):
        raise UserError(
            f"{path} holds both an exported network (variables/) and the checkpoints of a training;"
            " move one of them to a directory of its own."
        )
    if is_export:
        config, dataset = read_description(path)
        return StoredModel(config, dataset, read_variables(path / "variables"), None)
    if not paths.is_dir(workdir / "checkpoints") or (is_step and not paths.is_dir(path)):
        paths.check_bucket(path)
        raise UserError(
            f"{path} holds no checkpoint; name a working directory of a training, one of its"
            " checkpoints/STEP, or an exported or published model."
        )
    config, dataset = read_description(workdir)
    step, state = _read_step(path) if is_step else _read_best(workdir)
    averaged = use_ema and state.get("ema_params") is not None
    variables = {
        "params": state["ema_params" if averaged else "params"],
        "batch_stats": state["batch_stats"],
    }
    return StoredModel(config, dataset, variables, step)


def _read_step(path: paths.Path) -> tuple[int, dict[str, Any]]:
    try:
        return int(path.name), steps.read_state(path)
    except steps.DamagedError as error:
        raise UserError(
            f"Checkpoint {path} is damaged ({error}); restore it from a copy, or name"
            f" {path.parent.parent} to use an intact one."
        ) from error


def _read_best(workdir: paths.Path) -> tuple[int, dict[str, Any]]:
    directory = workdir / "checkpoints"
    for step, why in steps.read_scores(directory)[1].items():
        steps.tell(
            f"The score of checkpoint {directory / str(step)} {why}; the step counts as not scored."
        )
    found = steps.find_whole(directory, steps.best_first)
    if found is None:
        raise UserError(f"{workdir} holds no finished checkpoint yet; train it further.")
    return found.step, found.state


def read_variables(directory: paths.Path) -> dict[str, Any]:
    """NumPy arrays that `write_variables` wrote into an exported or ported network.

    Changes since then in the files beside them that people may edit, such as README.md, are only
    reported on standard error.

    Raises:
      UserError: the arrays cannot be read, or a file is not as it was written.
      OSError: the store that holds them cannot be read.
    """
    with paths.local_copy(directory.parent) as copy:
        for name, what in find_damage(copy).items():
            if name in DESCRIPTIONS:
                steps.tell(f"{directory.parent / name} {what}.")
                continue
            raise UserError(f"{directory.parent / name} {what}; restore it from a copy.")
        try:
            return steps.read_arrays(copy / directory.name)
        except steps.DamagedError as error:
            raise UserError(f"{directory.parent}: {error}; restore it from a copy.") from error


def export(
    directory: Path, config: ConfigDict, dataset: DatasetMetadata, variables: dict[str, Any]
) -> None:
    """Write a model without its training: config, data set and variables.

    Raises:
      UserError: the directory exists already, or cannot be written.
    """
    with new_directory(directory) as partial:
        write_variables(partial / "variables", variables)
        describe(partial, config, dataset)
        write_manifest(partial)


def write_variables(directory: pathlib.Path, variables: dict[str, Any]) -> None:
    """Write arrays alone, as a standard checkpoint of Orbax.

    Raises:
      OSError: they cannot be written.
    """
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(directory, jax.device_get(variables))
    except Exception as error:  # TensorStore raises errors of its own types
        raise OSError(errno.EIO, reason(error)) from error


def fingerprint(variables: Any, *description: Any) -> str:
    """SHA-256 of a network's arrays and, as JSON, of the other things that a result depends on."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for path, array in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
