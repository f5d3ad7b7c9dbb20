"""Small files that are whole or not there."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from ranet_jax.errors import UserError


def check_json_output(path: str | os.PathLike[str], contents: str) -> None:
    """Refuse, before work is done for it, a path to which no JSON can be written.

    Raises:
      UserError: it does not end in .json, or its directory is missing.
    """
    path = pathlib.Path(path)
    if path.suffix != ".json" or path.is_dir():
        raise UserError(f"The {contents} go to a JSON file; {path} is none: end its name in .json.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"Directory {path.parent} for the {contents} is missing; make it first.")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a path to write to, a file or a directory, which is moved to `path` in one step.

    It lies beside `path` and is of this process alone, so that several processes may write the
    same path. Where an exception ends the writing it is removed, and `path` stays as it was.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise


@contextlib.contextmanager
def new_directory(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a directory to fill, which has its name only once it is full.

    Raises:
      UserError: the path exists already, or cannot be made.
    """
    target = pathlib.Path(path).absolute()
    if os.path.lexists(target):
        raise UserError(f"{target} exists already; choose another directory.")
    try:
        with replacing(target) as partial:
            partial.mkdir(parents=True)
            yield partial
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); make room or choose another directory."
        ) from error


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in one step."""
    with replacing(path) as partial:
        partial.write_text(text)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; name a directory that training wrote.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}); restore it from a copy.") from error
