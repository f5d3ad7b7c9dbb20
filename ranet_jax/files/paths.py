"""Paths that users give: local ones, and those on object stores (`gs://`, `s3://`).

A local path is a `pathlib.Path`; a path on a store is an `etils.epath.Path`, whose own methods are
used only to take its name apart. The functions here check what exists at a path of either kind and
read its contents.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import TypeAlias, TypeGuard

from etils import epath

from ranet_jax.display.output import note
from ranet_jax.errors import UserError
from ranet_jax.files import stores

Path: TypeAlias = pathlib.Path | epath.Path
# Anything that names a path.
PathLike: TypeAlias = str | os.PathLike[str]


def as_path(text: PathLike) -> Path:
    """The path that a text names, with a leading `~` expanded.

    Raises:
      UserError: the text begins with a scheme other than gs:// and s3://, names no bucket, or the
        package that reaches its store is not installed.
    """
    name = os.path.expanduser(os.fspath(text))
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(/+)(.*)", name)
    if found is None:
        return pathlib.Path(name)
    scheme, slashes, rest = found.groups()
    if len(slashes) == 1:
        if scheme not in stores.PACKAGES:
            return pathlib.Path(name)
        raise UserError(
            f"{name} lacks a slash; write {scheme}://{rest}, as text and not as a pathlib.Path."
        )
    if scheme not in stores.PACKAGES:
        known = " or ".join(f"{scheme}://" for scheme in stores.PACKAGES)
        raise UserError(f"{name} cannot be read or written; name a local path, or one of {known}.")
    if not rest.strip("/") or len(slashes) > 2:
        raise UserError(f"{name} does not name a bucket; write {scheme}://BUCKET/PATH.")
    if importlib.util.find_spec(stores.PACKAGES[scheme]) is None:
        raise UserError(
            f"{name} needs the package {stores.PACKAGES[scheme]}; install it with"
            f" `pip install 'ranet_jax[{stores.EXTRAS[scheme]}]'`."
        )
    return epath.Path(name)


def is_store(path: Path) -> TypeGuard[epath.Path]:
    """Whether a path is on an object store."""
    return isinstance(path, epath.Path)


def absolute(path: Path) -> Path:
    """The absolute path; paths on stores are absolute already."""
    return path if is_store(path) else path.absolute()


def resolved(path: Path) -> Path:
    """The path with links resolved, so that all names of a file give the same path."""
    return path if is_store(path) else path.resolve()


def exists(path: Path) -> bool:
    """Whether something exists at the path; a broken link counts."""
    return stores.exists(path) if is_store(path) else os.path.lexists(path)


def is_dir(path: Path) -> bool:
    """Whether the path is a directory; on a store, whether there are files below it."""
    return stores.is_dir(path) if is_store(path) else os.path.isdir(path)


def is_file(path: Path) -> bool:
    """Whether the path is a file."""
    return stores.is_file(path) if is_store(path) else os.path.isfile(path)


def list_names(directory: Path) -> list[str]:
    """Names in a directory.

    Raises:
      OSError: it is missing or cannot be read.
    """
    return stores.list_names(directory) if is_store(directory) else os.listdir(directory)


def find_in_each(directory: Path, name: str) -> list[Path]:
    """The files called `name` in the subdirectories of a directory, which may be missing.

    Raises:
      OSError: it cannot be read.
    """
    names = list_names(directory) if is_dir(directory) else []
    return [directory / each / name for each in names if exists(directory / each / name)]


def list_files(directory: Path) -> list[Path]:
    """Files of a directory at any depth, sorted."""
    if is_store(directory):
        return sorted(directory / name for name in stores.list_files(directory))
    return sorted(path for path in directory.rglob("*") if path.is_file())


def read_bytes(path: Path) -> bytes:
    """The contents of a file.

    Raises:
      OSError: it is missing or cannot be read.
    """
    return stores.read_bytes(path) if is_store(path) else path.read_bytes()


def file_size(path: Path) -> int:
    """Size of a file in bytes.

    Raises:
      OSError: it is missing or cannot be read.
    """
    return stores.file_size(path) if is_store(path) else os.path.getsize(path)


def remove(path: Path) -> None:
    """Remove a file.

    Raises:
      OSError: it is missing or cannot be removed.
    """
    if is_store(path):
        stores.remove(path)
    else:
        path.unlink()


def check_bucket(path: Path) -> None:
    """Refuse a path in a missing bucket, before any work is done for it.

    Raises:
      UserError: there is no such bucket.
      OSError: the store cannot be reached.
    """
    if is_store(path):
        scheme, _, rest = str(path).partition("://")
        bucket = epath.Path(f"{scheme}://{rest.partition('/')[0]}")
        if not stores.exists(bucket):
            raise UserError(
                f"Bucket {bucket} does not exist or you have no access to it; name another."
            )


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[pathlib.Path]:
    """Yield a local path with the contents of a path: itself, or a temporary copy.

    A `UserError` that would name the copy names the path instead.

    Raises:
      OSError: the store cannot be read.
    """
    if not is_store(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ranet_jax_") as scratch:
        copy = pathlib.Path(scratch, path.name)
        stores.download(path, copy)
        try:
            yield copy
        except UserError as error:
            if str(copy) not in str(error):
                raise
            raise UserError(str(error).replace(str(copy), str(path))) from error


def kept_copy(directory: Path) -> pathlib.Path:
    """A local path of a directory: itself, or a copy that is kept for later calls.

    Copies lie in `ranet_jax/copies` of the user's cache directory; a directory whose files changed
    is copied again. Making a copy is reported on standard error.

    Raises:
      UserError: the user has no cache directory.
      OSError: the store cannot be read, or the copy cannot be written.
    """
    if not is_store(directory):
        return directory
    files = stores.list_files(directory)
    key = hashlib.sha256(json.dumps([str(directory), files]).encode()).hexdigest()[:16]
    try:
        caches = user_caches()
    except RuntimeError as error:
        raise UserError(
            f"{directory} cannot be copied to this machine, as the user has no home directory; set"
            " XDG_CACHE_HOME to a directory."
        ) from error
    target = caches / "copies" / f"{directory.parent.name}-{directory.name}-{key}"
    if target.is_dir():
        return target
    megabytes = sum(size for size, _ in files.values()) / 1e6
    note(f"Copying {directory} ({megabytes:.1f} MB) to {target}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial_") as scratch:
        stores.download(directory, pathlib.Path(scratch, "copy"))
        try:
            os.replace(pathlib.Path(scratch, "copy"), target)
        except OSError:
            if not target.is_dir():  # if it is one, another process has made it in the meantime
                raise
    return target


def user_caches() -> pathlib.Path:
    """The folder `ranet_jax` in the user's cache directory, by the XDG specification.

    Raises:
      RuntimeError: the user has no home directory.
    """
    named = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification does not allow a relative or an empty path.
    caches = named if named.is_absolute() else pathlib.Path.home() / ".cache"
    return caches / "ranet_jax"
