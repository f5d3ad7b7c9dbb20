"""Object stores, reached through fsspec: listing, reading and copying of whole files.

A store has no directories, no appending, no renaming and no locks: a file appears whole once it has
been sent. Failures are raised as an `OSError` that names the file, whatever the store's library
raises.

Paths have the type of `etils.epath`, but its own methods for reading and writing are not used: they
go through TensorFlow if that is installed, which does not read s3://, and its walk does not work
with s3fs.
"""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from etils import epath

from ranet_jax.errors import first_sentence

# The package that reaches the store of a scheme, and the extra in pyproject.toml that installs it,
# which has the name of the scheme except for Google's.
PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}
EXTRAS = {"gs": "gcs", "s3": "s3"}


def _file_system(path: epath.Path) -> Any:
    """fsspec's file system of a path, without cached listings, as other programs write too."""
    import fsspec  # slower to import than the rest, and needed only for stores

    scheme = str(path).partition("://")[0]
    return fsspec.filesystem(scheme, use_listings_cache=False)


@contextlib.contextmanager
def _errors_of(path: epath.Path) -> Iterator[Any]:
    """Yield the file system; turn its exceptions into an `OSError` that names this path."""
    try:
        yield _file_system(path)
    except FileNotFoundError as error:
        words = os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, words, str(path)) from error
    except Exception as error:  # each library has its own types, and so has the network layer
        words = first_sentence(error) or type(error).__name__
        raise OSError(errno.EIO, words, str(path)) from error


def exists(path: epath.Path) -> bool:
    """Whether a file has this name or lies below it; for a bucket, whether the bucket exists."""
    with _errors_of(path) as files:
        return files.exists(str(path))


def is_dir(path: epath.Path) -> bool:
    """Whether there are files below this name."""
    with _errors_of(path) as files:
        return files.isdir(str(path))


def is_file(path: epath.Path) -> bool:
    """Whether there is a file of this name."""
    with _errors_of(path) as files:
        return files.isfile(str(path))


def list_names(directory: epath.Path) -> list[str]:
    """Names of the files and directories directly below a directory.

    Raises:
      FileNotFoundError: there are none.
    """
    with _errors_of(directory) as files:
        found = files.ls(str(directory), detail=False)
    return [pathlib.PurePosixPath(name).name for name in found]


def list_files(directory: epath.Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and version tag of the files at any depth, by their names in the directory."""
    with _errors_of(directory) as files:
        found = files.find(str(directory), detail=True)
        root = files._strip_protocol(str(directory)).rstrip("/") + "/"
    return {
        name.removeprefix(root): (fields["size"], _version(fields))
        for name, fields in sorted(found.items())
        if name.startswith(root)
    }


def _version(fields: dict[str, Any]) -> str:
    return str(next(fields[k] for k in ("ETag", "etag", "LastModified", "mtime") if k in fields))


def read_bytes(path: epath.Path) -> bytes:
    """The contents of a file."""
    with _errors_of(path) as files:
        return files.cat_file(str(path))


def file_size(path: epath.Path) -> int:
    """Size of a file in bytes."""
    with _errors_of(path) as files:
        return files.info(str(path))["size"]


def remove(path: epath.Path) -> None:
    """Remove a file."""
    with _errors_of(path) as files:
        files.rm_file(str(path))


def download(path: epath.Path, target: pathlib.Path, left_out: tuple[str, ...] = ()) -> None:
    """Copy a file, or the files of a directory at any depth, to a local path.

    If nothing exists at the path, nothing is created. Directories directly below it whose names are
    in `left_out` are not copied.
    """
    if is_file(path):
        with _errors_of(path) as files:
            files.get_file(str(path), str(target))
        return
    for name in list_files(path):
        if name.partition("/")[0] in left_out:
            continue
        with _errors_of(path / name) as files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            files.get_file(str(path / name), str(target / name))


def upload(source: pathlib.Path, path: epath.Path, last: str | None = None) -> None:
    """Copy a local file, or the files of a directory at any depth, to a store.

    If an exception stops the copy of a directory, the files sent so far are removed.

    Args:
      source: file or directory.
      path: its place on the store.
      last: name of the file that is sent after all others of the directory.
    """
    if source.is_file():
        _send(source, path)
        return
    names = sorted(
        file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()
    )
    sent = []
    try:
        for name in sorted(names, key=lambda name: name == last):
            sent.append(path / name)
            _send(source / name, path / name)
    except BaseException:
        for each in sent:
            with contextlib.suppress(OSError):
                remove(each)
        raise


def _send(source: pathlib.Path, path: epath.Path) -> None:
    with _errors_of(path) as files:
        files.put_file(str(source), str(path))
