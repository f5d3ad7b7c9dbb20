"""The files that describe the model in a directory, and which training a directory belongs to."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.config import config_from_json, config_to_json
from ranet_jax.errors import UserError
from ranet_jax.files import paths, read_json, reason, write_json
from ranet_jax.files.paths import Path
from ranet_jax.pipeline.metadata import DatasetMetadata

# Names that an exported or ported network has and a working directory does not have.
MODEL_FILES = ("variables", "port.json", "kept.safetensors")
# Names in a working directory that, if present, are directories, and those that are files.
DIRECTORIES = ("checkpoints", "tensorboard")
FILES = ("metrics.jsonl",)
# Names that file systems themselves put into directories.
OF_NOBODY = ("lost+found",)


def workdir_of(path: Path) -> Path:
    """The working directory of a checkpoint `WORKDIR/checkpoints/STEP`; other paths stay as given.

    The path must be absolute.
    """
    is_step = path.parent.name == "checkpoints" and path.name.isdigit()
    return path.parent.parent if is_step else path


def describe(directory: pathlib.Path, config: ConfigDict, dataset: DatasetMetadata) -> None:
    """Write the files that say what model a directory holds."""
    write_json(directory / "config.json", config_to_json(config))
    write_json(directory / "dataset.json", dataset.to_json())


def find_config(directory: Path) -> ConfigDict | None:
    """Config that `describe` wrote; None if the directory has none.

    Raises:
      UserError: the file is not such a config.
    """
    path = directory / "config.json"
    return _read_config(path) if paths.is_file(path) else None


def read_description(directory: Path) -> tuple[ConfigDict, DatasetMetadata]:
    """Config and data set that `describe` wrote.

    Raises:
      UserError: a file is missing, or is not such a description.
    """
    try:
        config = _read_config(directory / "config.json")
    except UserError as error:
        raise UserError(f"The model in {directory} cannot be loaded: {error}") from error
    fields = read_json(directory / "dataset.json")
    return config, DatasetMetadata.from_json(fields)


def _read_config(path: Path) -> ConfigDict:
    return parse_config(read_json(path), path)


def parse_config(fields: Any, path: Path) -> ConfigDict:
    """Config made of the fields that a file holds.

    Raises:
      UserError: they are not the fields of a config.
    """
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


def find_training(directory: Path) -> tuple[ConfigDict, DatasetMetadata] | None:
    """Config and data set of the training that a working directory belongs to.

    None if a new training may begin there: the directory is missing or empty, or holds only the
    config left by a training that was killed at its very start.

    Raises:
      UserError: it is a file, holds an exported or ported network, holds unrelated files, or its
        bucket is missing.
    """
    if not paths.exists(directory):
        paths.check_bucket(directory)
        return None
    try:
        names = sorted(paths.list_names(directory))
    except OSError as error:
        raise UserError(
            f"Directory {directory} cannot be made or read ({reason(error)}); choose another"
            " working directory."
        ) from error
    names = [name for name in names if not name.startswith(".") and name not in OF_NOBODY]
    if not names:
        return None
    of_model = [name for name in MODEL_FILES if name in names]
    if of_model:
        raise UserError(
            f"{directory} holds an exported or ported network ({of_model[0]}), which training would"
            " damage; choose another working directory, and name this one as"
            " config.model.init_from to start from its weights."
        )
    wrong = [n for n in DIRECTORIES if n in names and not paths.is_dir(directory / n)]
    wrong += [n for n in FILES if n in names and not paths.is_file(directory / n)]
    if wrong:
        raise UserError(
            f"{directory / wrong[0]} has a name that training uses for something else;"
            " move it away or choose another working directory."
        )
    try:
        if "config.json" not in names:
            raise UserError("it has no config.json")
        config = _read_config(directory / "config.json")
        if names == ["config.json"]:
            return None
        fields = read_json(directory / "dataset.json")
        return config, DatasetMetadata.from_json(fields)
    except UserError as error:
        raise UserError(
            f"{directory} holds files ({names[0]}) but is not the working directory of a training"
            f" ({str(error).rstrip('.')}); choose another working directory."
        ) from error
