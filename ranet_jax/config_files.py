"""Configs as the command line takes them: Python files, and fields set by arguments."""

import ast
import importlib.resources
import importlib.util
import os
import pathlib
import traceback
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.config import (
    check_config,
    config_from_json,
    config_to_json,
    field_type,
    set_field,
)
from ranet_jax.errors import UserError, first_sentence
from ranet_jax.files.paths import as_path, is_file, local_copy

# Name under which the top-level folder configs/ is installed, from a wheel and from a checkout.
PACKAGE = "ranet_configs"


def packaged_config(name: str) -> pathlib.Path:
    """File of an experiment that comes with ranet_jax, such as `shapes.py`; it may be missing."""
    return pathlib.Path(str(importlib.resources.files(PACKAGE))) / name


def load_config(path: str | os.PathLike[str]) -> ConfigDict:
    """The config that a Python file's `get_config()` returns.

    `configs/NAME.py` is the experiment of that name that comes with ranet_jax, unless the working
    directory has such a file.

    Raises:
      UserError: the file is missing, has no `get_config`, fails, or sets an unknown field.
    """
    place = as_path(path)
    if not is_file(place):
        packaged = packaged_config(place.name)
        if place.parent != pathlib.Path("configs") or not packaged.is_file():
            raise UserError(
                f"Config {path} is missing; name a Python file such as configs/shapes.py."
            )
        place = packaged
    with local_copy(place) as copy:
        return _load(copy)


def _load(path: pathlib.Path) -> ConfigDict:
    spec = importlib.util.spec_from_file_location("ranet_config", path)
    if spec is None or spec.loader is None:
        raise UserError(f"Config {path} is not a Python file; name one such as configs/shapes.py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(f"Config {path} has no get_config(); see configs/shapes.py for one.")
        config = module.get_config()
        if not isinstance(config, ConfigDict):
            raise UserError(
                f"get_config() of {path} does not return a ConfigDict; see configs/shapes.py."
            )
        return config_from_json(config_to_json(config))
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == spec.origin]
        place = f" in line {lines[-1]}" if lines else ""
        reason = first_sentence(error)
        raise UserError(f"Config {path} fails{place}: {type(error).__name__}: {reason}.") from error


def override(config: ConfigDict, arguments: list[str]) -> ConfigDict:
    """The config with `--config.section.field=value` arguments applied.

    A value is written as in Python: `0.5`, `True`, `None`, `"(0.5, 1.0)"`; text needs no quotes.

    Raises:
      UserError: an argument names no field, or its value does not fit the field.
    """
    for argument in arguments:
        name, equals, text = argument.removeprefix("--config.").partition("=")
        if not argument.startswith("--config.") or not equals:
            raise UserError(
                f"{argument!r} is not an option; fields are set as --config.section.field=value."
            )
        is_text = field_type(name) is str and text != "None"
        set_field(config, name, text if is_text else _value(text))
    return config


def overridden(arguments: list[str]) -> frozenset[str]:
    """Dotted names of the fields that `--config.section.field=value` arguments set."""
    return frozenset(a.removeprefix("--config.").partition("=")[0] for a in arguments)


def read_config(path: str | os.PathLike[str], arguments: list[str]) -> ConfigDict:
    """The config of a Python file with `--config.` arguments applied and all values checked.

    Raises:
      UserError: as `load_config` and `override` do, or a field does not take its value.
    """
    config = override(load_config(path), arguments)
    check_config(config)
    return config


def _value(text: str) -> Any:
    """The Python value of a literal, or the text itself if it is not a literal."""
    try:
        return ast.literal_eval(text)
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
        return text
