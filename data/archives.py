"""Files of a data set's source, read from an archive or from an unpacked folder."""

import os
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ranet_jax.errors import UserError
from ranet_jax.pipeline.images import is_hidden

# Errors that the standard library raises on archives that are damaged, cut off or encrypted.
DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError),
    *(zlib.error, zipfile.BadZipFile, tarfile.TarError),
)


class Member(NamedTuple):
    """File of an archive; it is read like a `Path` and printed as ARCHIVE/NAME."""

    archive: Path
    name: str
    read: Callable[[], bytes]

    def read_bytes(self) -> bytes:
        """The file's bytes; UserError if they are damaged."""
        try:
            return self.read()
        except DAMAGED as error:
            raise UserError(f"{self} is damaged ({error}); download the archive again.") from error

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


File = Path | Member


class Tree:
    """Files of one folder of a download, by their path within it.

    They are read from the archive if the source has it, else from the unpacked folder.

    Args:
      source: directory that holds the archive or the folder.
      archive: name of a .zip or .tar, or of a compressed tar; the files of the last are held in
        memory.
      folder: path of the folder in the archive; any parent folders may come before it.
      origin: where the archive comes from, in words that can follow "from".
      unpacked: paths in the source; the first one that exists is read (default: `folder`).

    Raises UserError if neither is there, or the archive cannot be read.
    """

    def __init__(
        self, source: Path, archive: str, folder: str, origin: str, unpacked: tuple[str, ...] = ()
    ):
        self.archive, self.origin = archive, origin
        candidates = unpacked or (folder,)
        self.files: dict[str, File]
        if (source / archive).is_file():
            self.place = source / archive / folder
            self.files = dict(_members_under(source / archive, folder))
        else:
            existing = (source / name for name in candidates if (source / name).is_dir())
            place = next(existing, None)
            if place is None:
                raise UserError(
                    f"{source} has neither {archive} nor the folder {candidates[0]} unpacked from "
                    f"it; download {archive} from {origin}."
                )
            self.place = place
            self.files = {path.relative_to(place).as_posix(): path for path in files_under(place)}

    @staticmethod
    def is_in(source: Path, archive: str, *folders: str) -> bool:
        """Whether the source has the archive, or a folder unpacked from it."""
        return (source / archive).is_file() or any((source / name).is_dir() for name in folders)

    def __getitem__(self, name: str) -> File:
        """File at a path; UserError, which says where to download it, if it is missing."""
        try:
            return self.files[name]
        except KeyError:
            raise UserError(
                f"{self.place / name} is missing; it is part of {self.archive} from {self.origin}."
            ) from None

    def stems(self, suffix: str) -> list[str]:
        """Sorted paths that end with a suffix, without it; UserError if there are none."""
        found = [name.removesuffix(suffix) for name in self.files if name.endswith(suffix)]
        if not found:
            raise UserError(
                f"{self.place} holds no file *{suffix}; download {self.archive} from {self.origin}."
            )
        return sorted(found)


def files_under(folder: Path) -> list[Path]:
    """Sorted files in a folder at any depth, without hidden ones; links are followed."""
    paths = (
        Path(directory) / name
        for directory, _, names in os.walk(folder, followlinks=True)
        if not any(map(is_hidden, Path(directory).relative_to(folder).parts))
        for name in names
        if not is_hidden(name)
    )
    return sorted(path for path in paths if path.is_file())


def read_list(tree: Tree, name: str) -> list[str]:
    """First word of each line of a list; UserError if there are none, or one occurs twice."""
    words = [line.split()[0] for line in read_lines(tree[name])]
    if not words:
        raise UserError(f"{tree[name]} names no images; download {tree.archive} again.")
    word, count = Counter(words).most_common(1)[0]
    if count > 1:
        raise UserError(f"{tree[name]} names image {word} {count} times; leave one of the lines.")
    return words


def read_lines(file: File) -> list[str]:
    """Lines of a text file that are not blank; UserError if it is not text."""
    try:
        lines = file.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not text ({error}); download it again.") from error
    return [line for line in lines if line.strip()]


def _members_under(archive: Path, folder: str) -> Iterator[tuple[str, Member]]:
    """Files of an archive that lie in a folder, in pairs of the path within the folder and file."""
    try:
        members = list(_zip_members(archive) if archive.suffix == ".zip" else _tar_members(archive))
    except DAMAGED as error:
        raise UserError(
            f"{archive} cannot be read as an archive ({error}); download it again."
        ) from error
    for member in members:
        _, found, path = f"/{member.name}".partition(f"/{folder}/")
        if found and not any(map(is_hidden, path.split("/"))):
            yield path, member


def _zip_members(path: Path) -> Iterator[Member]:
    archive = zipfile.ZipFile(path)
    for info in archive.infolist():
        if not info.is_dir():
            yield Member(path, info.filename, partial(archive.read, info))


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            if path.suffix == ".tar" and info.isfile():
                yield Member(path, info.name, partial(_read_range, path, info))
            elif info.isfile() and (file := archive.extractfile(info)) is not None:
                yield Member(path, info.name, partial(bytes, file.read()))


def _read_range(path: Path, info: tarfile.TarInfo) -> bytes:
    with path.open("rb") as file:
        file.seek(info.offset_data)
        content = file.read(info.size)
    if len(content) < info.size:
        raise EOFError(f"{info.size} bytes were expected, {len(content)} are there")
    return content


def note_count(what: str, found: int, unit: str, official: int) -> None:
    """Report on standard error if a part of a data set does not have its official size."""
    if found != official:
        print(
            f"{what} has {found} {unit}; officially it has {official}. If you expect the complete"
            " data, complete the source, delete the data set and prepare it again.",
            file=sys.stderr,
        )
