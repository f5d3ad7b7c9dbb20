"""Reading and writing of small files, each of which is written completely or not at all."""

import contextlib
import errno
import json
import math
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.files import paths, stores
from ranet_jax.files.paths import as_path, is_store


def check_json_output(path: str | os.PathLike[str], contents: str) -> None:
    """Refuse a path to which no JSON can be written, before any work is done for it.

    Raises:
      UserError: it does not end in .json, or its directory or bucket is missing.
    """
    path = as_path(path)
    if path.suffix != ".json" or paths.is_dir(path):
        raise UserError(
            f"The {contents} are written as JSON; give {path} a name that ends in .json."
        )
    paths.check_bucket(path)
    if not is_store(path) and not os.path.isdir(path.absolute().parent):
        raise UserError(f"Directory {path.parent} for the {contents} is missing; make it first.")


def check_suffix(path: paths.Path, suffix: str) -> None:
    """Raise `UserError` unless a path has the ending of its format."""
    if path.suffix != suffix:
        raise UserError(f"{path} does not end in {suffix}; make its ending match the format.")


def make_directory(directory: paths.Path, other: str) -> None:
    """Make a directory and its parents if they are missing; on a store only the bucket must exist.

    Args:
      directory: the directory to make.
      other: what the error tells the user to choose instead, such as "output directory".

    Raises:
      UserError: it cannot be made, or there is no such bucket.
    """
    paths.check_bucket(directory)
    if is_store(directory):
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Directory {directory} cannot be made ({reason(error)}); choose another {other}."
        ) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a path at which to write a file or directory that is then moved to `path` in one step.

    The yielded path lies beside `path` and is used by this process alone, so that several processes
    may write the same `path`. If writing ends with an exception, the partial file or directory is
    removed and `path` stays as it was.

    If `path` is on an object store, the file or directory is written on this machine first.
    """
    path = as_path(path)
    if is_store(path):
        with tempfile.TemporaryDirectory(prefix="ranet_jax_") as scratch:
            partial = pathlib.Path(scratch, path.name)
            yield partial
            stores.upload(partial, path)
        return
    # Long names are shortened, since file systems limit the length of a name.
    partial = path.with_name(f".{path.name[:40]}.{os.getpid()}.partial")
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
    """Yield a directory to fill, which gets its final name only once it is complete.

    Raises:
      UserError: the path exists already, or cannot be made.
    """
    target = paths.absolute(as_path(path))
    paths.check_bucket(target)
    if paths.exists(target):
        raise UserError(f"{target} exists already; choose another directory.")
    with explained(target, "make room or choose another directory"), replacing(target) as partial:
        partial.mkdir(parents=True)
        yield partial


@contextlib.contextmanager
def explained(what: object, remedy: str) -> Iterator[None]:
    """Turn an `OSError` into a `UserError` that says what cannot be written, why, and a remedy."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} cannot be written ({reason(error)}); {remedy}.") from error


def numbered_names(directory: paths.Path) -> list[int]:
    """The names in a directory that are numbers, in order; none if the directory is missing."""
    try:
        names = paths.list_names(directory)
    except OSError:
        return []
    return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]{0,17}", name))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON in one step, in the form of `json_text`."""
    write_text(path, json_text(value) + "\n")


def json_text(value: Any) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(value, indent=2)
    # JSON has line breaks only outside of strings.
    return re.sub(r'\[\n([^\[\]{}"]*)\]', lambda list_: f"[{' '.join(list_[1].split())}]", text)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in one step; it is on the disk when this returns."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
      UserError: the file is missing, cannot be read or is not JSON.
    """
    try:
        return parse_json(paths.read_bytes(as_path(path)))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; name a directory that training wrote.") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}); restore it from a copy."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); restore it from a copy.") from error


def parse_json(text: bytes) -> Any:
    """Parse JSON in UTF-8.

    Raises:
      ValueError: the text is not JSON, is nested too deeply, or holds a number beyond 64 bits.
    """
    try:
        return json.loads(text.decode(), parse_int=_integer, parse_float=_float)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    if math.isinf(float(digits)):
        raise ValueError(f"it holds the number {digits[:20]}, which is too large")
    return float(digits)


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, in the words of the operating system if it has any.

    Libraries that are not written in Python put these words inside messages of their own.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    known = {number: os.strerror(number) for number in _REASONS}
    text = str(error)
    found = [words for n, words in known.items() if words in text or errno.errorcode[n] in text]
    return found[0] if found else first_sentence(text) or type(error).__name__


_REASONS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENOENT, errno.EIO),
)
