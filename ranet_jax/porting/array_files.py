"""Files that hold only arrays: safetensors and NumPy's archives, with arrays read on demand."""

import math
import os
import pathlib
import warnings
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranet_jax.errors import UserError
from ranet_jax.files import parse_json
from ranet_jax.porting.stored import BFLOAT16, Damaged, Piece, Stored, whole_numbers

# Types of safetensors, except those that NumPy lacks.
_DTYPES = {
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    "BF16": BFLOAT16,
    "BOOL": np.dtype(bool),
}
# A byte of DEFLATE describes no more bytes than this.
_MOST_INFLATED = 1032
# Functions that read shape and dtype of an array, by the version of its format.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass
class _Plain(Stored):
    """An array whose bytes lie in a file as they do in memory."""

    piece: Piece
    shape: tuple[int, ...]
    dtype: np.dtype | None

    def read(self) -> np.ndarray:
        assert self.dtype is not None
        return self.piece.read().view(self.dtype).reshape(self.shape)


def read_safetensors(path: pathlib.Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name.

    The file consists of a length in eight bytes, a JSON text of that length with dtype, shape and
    place of each tensor, and the tensors one after the other.

    Raises:
      Damaged: it is not such a file, or has bytes that belong to no tensor or to two.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start = 8 + length
        if start > size:
            raise Damaged
        try:
            header = parse_json(file.read(length))
        except ValueError as error:
            raise Damaged from error
    if not isinstance(header, dict):
        raise Damaged
    header.pop("__metadata__", None)
    tensors: dict[str, Stored] = {}
    places = []
    for name, fields in header.items():
        (begin, end), shape, dtype = _described(fields)
        places.append((begin, end))
        tensors[name] = _Plain(Piece(path, start + begin, end - begin), shape, dtype)
    places.sort()
    ends = [0, *(end for _, end in places)]
    if ends != [*(begin for begin, _ in places), size - start]:
        raise Damaged
    return tensors


def _described(fields: Any) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype | None]:
    """Place, shape and dtype of a tensor according to the header."""
    if not isinstance(fields, dict):
        raise Damaged
    place, shape = whole_numbers(fields.get("data_offsets")), whole_numbers(fields.get("shape"))
    name = fields.get("dtype")
    if len(place) != 2 or place[0] > place[1] or not isinstance(name, str):
        raise Damaged
    dtype = _DTYPES.get(name)
    if dtype is not None and place[1] - place[0] != math.prod(shape) * dtype.itemsize:
        raise Damaged
    return place, shape, dtype


@dataclass
class _Entry(Stored):
    """An array in an archive, which may be compressed."""

    archive: zipfile.ZipFile
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None

    def read(self) -> np.ndarray:
        try:
            with self.archive.open(self.name) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # whatever NumPy and the archive's library raise
            raise Damaged from error
        return array


def read_npz(path: pathlib.Path) -> dict[str, Stored]:
    """The arrays of a NumPy archive by name.

    Raises:
      UserError: the archive holds Python objects.
      Damaged: the file is not such an archive.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about headers of Python 2
            archive = zipfile.ZipFile(path)  # it closes itself with the last of its entries
            infos = archive.infolist()
            if sum(info.compress_size for info in infos) > os.path.getsize(path):
                raise Damaged  # entries that share bytes
            return {i.filename.removesuffix(".npy"): _entry(archive, i, path) for i in infos}
    except (UserError, Damaged):
        raise
    except Exception as error:
        raise Damaged from error


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: pathlib.Path) -> _Entry:
    most = _MOST_INFLATED if info.compress_type != zipfile.ZIP_STORED else 1
    if info.file_size > most * info.compress_size:
        raise Damaged
    with archive.open(info) as file:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        if dtype.hasobject:
            raise UserError(
                f"{path} is refused, because loading its Python objects would execute code; save"
                " only arrays of numbers."
            )
        if file.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise Damaged
    return _Entry(archive, info.filename, whole_numbers(shape), dtype)
