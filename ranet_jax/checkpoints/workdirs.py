"""What describes the model in a directory, and to whom a directory belongs."""

import os
import pathlib

from ml_collections import ConfigDict

from ranet_jax.config import config_from_json, config_to_json
from ranet_jax.errors import UserError
from ranet_jax.files import paths, read_json, reason, write_json
from ranet_jax.files.paths import Path, as_path
from ranet_jax.pipeline.metadata import DatasetMetadata

# What an exported or a ported network has and a working directory has not.
MODEL_FILES = ("variables", "port.json", "kept.safetensors")
# What a working directory has, where it is there, as a directory.
DIRECTORIES = ("checkpoints", "tensorboard")
FILES = ("metrics.jsonl",)
# What file systems put into directories by themselves.
OF_NOBODY = ("lost+found",)


def workdir_of(path: str | os.PathLike[str]) -> Path:
    """The working directory of one of its checkpoints `WORKDIR/checkpoints/STEP`, or the path."""
    path = paths.absolute(as_path(path))
    is_step = path.parent.name == "checkpoints" and path.name.isdigit()
    return path.parent.parent if is_step else path


def describe(directory: pathlib.Path, config: ConfigDict, dataset: DatasetMetadata) -> None:
    """Write the files that say what model a directory holds."""
    write_json(directory / "config.json", config_to_json(config))
    write_json(directory / "dataset.json", dataset.to_json())


def read_description(directory: Path) -> tuple[ConfigDict, DatasetMetadata]:
    """Config and data set that `describe` wrote.

    Raises:
      UserError: a file is missing, or is not such a description.
    """
    try:
        config = _read_config(directory / "config.json")
    except UserError as error:
        raise UserError(f"The model in {directory} cannot be loaded: {error}") from error
    return config, DatasetMetadata.from_json(read_json(directory / "dataset.json"))


def _read_config(path: Path) -> ConfigDict:
    fields = read_json(path)
    sections = ("model", "data", "train")
    if not isinstance(fields, dict) or not all(isinstance(fields.get(s), dict) for s in sections):
        raise UserError(
            f"{path} is not the config of a training, which has the sections"
            f" {', '.join(sections)}; restore it from a copy."
        )
    try:
        return config_from_json(fields)
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise UserError(f"{path} holds no config ({error}); restore it from a copy.") from error


def check_owner(directory: pathlib.Path) -> None:
    """See that training may write to a directory: it is missing, empty or a training's already.

    Raises:
      UserError: it is a file, holds an exported or ported network, or files of anything else.
    """
    if not os.path.lexists(directory):
        return
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise UserError(
            f"Directory {directory} cannot be made or read ({reason(error)}); choose another"
            " working directory."
        ) from error
    names = [name for name in names if not name.startswith(".") and name not in OF_NOBODY]
    if not names:
        return
    of_model = [name for name in MODEL_FILES if name in names]
    if of_model:
        raise UserError(
            f"{directory} holds an exported or ported network ({of_model[0]}), which training would"
            " spoil; choose another working directory, and name this one as"
            " config.model.init_from to start from its weights."
        )
    try:
        if "config.json" not in names:
            raise UserError("it has no config.json")
        _read_config(directory / "config.json")
        if names != ["config.json"]:  # as a training leaves it that is killed at its very start
            DatasetMetadata.from_json(read_json(directory / "dataset.json"))
    except UserError as error:
        raise UserError(
            f"{directory} holds files ({names[0]}) but is not the working directory of a training"
            f" ({str(error).rstrip('.')}); choose another working directory."
        ) from error
    wrong = [n for n in DIRECTORIES if n in names and not os.path.isdir(directory / n)]
    wrong += [n for n in FILES if n in names and not os.path.isfile(directory / n)]
    if wrong:
        raise UserError(
            f"{directory / wrong[0]} is in the way, as training writes something else of that"
            " name; move it away or choose another working directory."
        )
