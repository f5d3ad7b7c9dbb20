"""Files of `torch.save`, in both of its formats, and plain pickles; PyTorch is not needed.

The newer format is a ZIP archive with a pickle and with an entry for each storage of tensors. The
older one has four pickles, the last of which is what was saved, then a pickle of the storages'
names, and then the storages.
"""

import io
import os
import pathlib
import struct
import sys
import zipfile
from typing import Any, Literal

from ranet_jax.errors import UserError
from ranet_jax.porting.pickled_types import STORAGES, Name
from ranet_jax.porting.pickles import read_pickle
from ranet_jax.porting.stored import Damaged, Piece, Storage

# The value of the first pickle in the older format.
_MAGIC = 0x1950A86A20F9469CFC6C
# The head of an entry in a ZIP archive: four known bytes, the lengths of its name and its extras.
_HEAD = struct.Struct("<4s22xHH")


def read_torch(path: pathlib.Path) -> Any:
    """What a file holds: values of Python's own types, and `Stored` for arrays still to be read.

    Raises:
      UserError: the file is a program, or compressed.
      Damaged: the file is cut off, or is not such a file.
      Refused: the file names a type that is not known to hold only data.
    """
    with path.open("rb") as file:
        try:
            zipped = zipfile.is_zipfile(file)
        except zipfile.BadZipFile as error:
            raise Damaged from error
        if zipped:
            return _read_archive(path, file)
        file.seek(0)
        return _read_pickles(path, file)


def _read_archive(path: pathlib.Path, file: io.BufferedIOBase) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            _check_entries(entries, path)
            root = next(n for n in entries if n.split("/")[-1] == "data.pkl").removesuffix(
                "data.pkl"
            )
            marker = f"{root}byteorder"
            order = "big" if marker in entries and archive.read(marker) == b"big" else "little"
            pickle = io.BytesIO(archive.read(f"{root}data.pkl"))
    except UserError:
        raise
    except _NO_ARCHIVE as error:
        raise Damaged from error
    return read_pickle(pickle, _Entries(path, entries, root, order != sys.byteorder).find)


class _Entries:
    """The storages that are entries of an archive below a root."""

    def __init__(
        self, path: pathlib.Path, entries: dict[str, zipfile.ZipInfo], root: str, swapped: bool
    ):
        self.path, self.entries, self.root, self.swapped = path, entries, root, swapped
        self.storages: dict[str, Storage] = {}

    def find(self, identifier: Any) -> Storage:
        """The storage that an identifier names."""
        kind, key, count, _ = _parts(identifier)
        info, (size, dtype) = self.entries[f"{self.root}data/{key}"], STORAGES[kind]
        if info.file_size < count * size:
            raise Damaged
        if key not in self.storages:
            self.storages[key] = Storage(dtype, _entry(self.path, info).read, self.swapped)
        return self.storages[key]


# What `zipfile` raises for files that are not archives.
_NO_ARCHIVE = (
    *(zipfile.BadZipFile, struct.error, OSError, EOFError, RuntimeError),
    *(ValueError, LookupError, StopIteration),
)


def _check_entries(entries: dict[str, zipfile.ZipInfo], path: pathlib.Path) -> None:
    if any("/code/" in name for name in entries):
        raise UserError(f"{path} is a TorchScript program; save only the network's state_dict().")
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
        raise UserError(
            f"{path} is compressed, which torch.save never does; save the network's state_dict()"
            " again."
        )
    # Memory for as many bytes as an entry claims to have is allocated before they are read.
    if any(info.compress_size != info.file_size for info in entries.values()):
        raise Damaged
    if sum(info.file_size for info in entries.values()) > path.stat().st_size:
        raise Damaged  # entries that share bytes


def _entry(path: pathlib.Path, info: zipfile.ZipInfo) -> Piece:
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(_HEAD.size)
    if len(head) != _HEAD.size or head[:4] != b"PK\3\4":
        raise Damaged
    _, name, extra = _HEAD.unpack(head)
    offset = info.header_offset + _HEAD.size + name + extra
    return Piece(path, offset, info.file_size, info.CRC)


def _read_pickles(path: pathlib.Path, file: io.BufferedIOBase) -> Any:
    first = read_pickle(file, path=path)
    if first != _MAGIC:
        return first
    read_pickle(file)
    machine = read_pickle(file)
    if not isinstance(machine, dict):
        raise Damaged
    order: Literal["little", "big"] = "little"
    if machine.get("little_endian", True) is not True:
        order = "big"
    storages = _Followers(order != sys.byteorder)
    found = read_pickle(file, storages.find)
    keys = read_pickle(file)
    end = path.stat().st_size
    for key in keys if isinstance(keys, list) else [None]:
        if not isinstance(key, str) or key not in storages.sizes:
            raise Damaged
        head = file.read(8)
        start, length = file.tell(), int.from_bytes(head, order) * storages.sizes[key]
        if len(head) < 8 or start + length > end:
            raise Damaged
        storages.places[key] = Piece(path, start, length)
        file.seek(length, os.SEEK_CUR)
    if storages.sizes.keys() - storages.places.keys():
        raise Damaged
    return found


class _Followers:
    """The storages that follow the pickles that name them.

    Attributes:
      sizes: sizes of their elements.
      places: where they are, once that is known.
    """

    def __init__(self, swapped: bool):
        self.swapped = swapped
        self.storages: dict[str, Storage] = {}
        self.parts: dict[tuple[str, str], Storage] = {}
        self.sizes: dict[str, int] = {}
        self.places: dict[str, Piece] = {}

    def find(self, identifier: Any) -> Storage:
        """The storage that an identifier names, which may be a part of another."""
        kind, key, _, view = _parts(identifier)
        size, dtype = STORAGES[kind]
        if key not in self.storages:
            self.storages[key] = Storage(dtype, lambda: self.places[key].read(), self.swapped)
            self.sizes[key] = size
        if view is None:
            return self.storages[key]
        part = (key, repr(view))
        if part not in self.parts:
            self.parts[part] = _part(self.storages[key], view, size)
        return self.parts[part]


def _part(whole: Storage, view: Any, size: int) -> Storage:
    """A storage that is a part of another, by offset and number of elements."""
    if not isinstance(view, tuple) or len(view) != 3:
        raise Damaged
    _, offset, count = view
    if not isinstance(offset, int) or not isinstance(count, int) or min(offset, count) < 0:
        raise Damaged
    start, stop = offset * size, (offset + count) * size
    whole.views += 1
    return Storage(whole.dtype, lambda: whole.content()[start:stop], whole.swapped)


def _parts(identifier: Any) -> tuple[str, str, int, Any]:
    """Kind, key and number of elements of a storage, and which part of another it is, if any."""
    if not isinstance(identifier, tuple) or not 5 <= len(identifier) <= 6:
        raise Damaged
    word, kind, key, _, count, *view = identifier
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str):
        raise Damaged
    if type(count) is not int or not 0 <= count < 2**48:
        raise Damaged
    return kind.text.rpartition(".")[2], key, count, view[0] if view else None
