"""Arrays and tensors that a file holds, which are read when they are asked for."""

import math
import os
import pathlib
import re
import weakref
import zlib
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Damaged(Exception):
    """The content of a file is not what any program writes."""


class Stored:
    """An array that a file holds.

    Attributes:
      shape: its lengths.
      dtype: dtype of its elements; None if they are not real numbers of a usual type, or are not
        stored one after the other.
    """

    shape: tuple[int, ...]
    dtype: np.dtype | None

    def read(self) -> np.ndarray:
        """The array.

        Raises:
          Damaged: the file does not hold that many elements.
        """
        raise Damaged


# State dicts whose files may still be unread.
Tensors: TypeAlias = Mapping[str, np.ndarray | Stored]


def as_array(value: np.ndarray | Stored) -> np.ndarray:
    """The array, read if it is stored."""
    return value.read() if isinstance(value, Stored) else value


class Piece:
    """Bytes of a file, one after the other.

    They are read and not mapped into memory: if a program truncates a mapped file, as a training
    does that saves to it again, programs that look at the removed part end with a bus error. A file
    that was replaced or written to in the meantime is refused.
    """

    def __init__(self, path: pathlib.Path, offset: int, length: int, checksum: int | None = None):
        self.path, self.offset, self.length, self.checksum = path, offset, length, checksum
        self.state = _state(os.stat(path))
        self._read: Callable[[], np.ndarray | None] = lambda: None

    def __len__(self) -> int:
        return self.length

    def read(self) -> np.ndarray:
        """The bytes, as uint8 [length]; the array of the last call if it is still in use.

        Raises:
          Damaged: the file is too short, was changed, or its bytes do not have the checksum.
        """
        content = self._read()
        if content is None:
            content = self._load()
            self._read = weakref.ref(content)
        return content

    def _load(self) -> np.ndarray:
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                if _state(found) != self.state or self.offset + self.length > found.st_size:
                    raise Damaged
                content = np.empty(self.length, np.uint8)
                file.seek(self.offset)
                complete = file.readinto(content.data) == self.length
        except OSError as error:
            raise Damaged from error
        if not complete or self.checksum not in (None, zlib.crc32(content.data)):
            raise Damaged
        content.flags.writeable = False
        return content


def _state(found: os.stat_result) -> tuple[int, ...]:
    """The properties of a file that change when it is replaced or written to."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Storage:
    """Elements one after the other, which tensors are views of.

    Attributes:
      views: number of these tensors; if there are several, the elements are read once and kept.
    """

    def __init__(
        self, dtype: np.dtype | None, load: Callable[[], np.ndarray], swapped: bool = False
    ):
        self.dtype, self.load, self.swapped = dtype, load, swapped
        self.views = 0
        self._content: np.ndarray | None = None
        self._swapped: MutableMapping[np.dtype, np.ndarray] = weakref.WeakValueDictionary()

    def content(self) -> np.ndarray:
        """The bytes of all elements, as uint8 [n]."""
        content = self.load() if self._content is None else self._content
        if self.views > 1:
            self._content = content
        return content

    def values(self, dtype: np.dtype) -> np.ndarray:
        """The elements in a dtype, in this machine's byte order."""
        stored = np.dtype("u2") if dtype == BFLOAT16 else dtype
        values = self._swapped.get(stored)
        if values is None:
            content = self.content()
            values = content[: len(content) // stored.itemsize * stored.itemsize].view(stored)
            if self.swapped:
                values = self._swapped[stored] = values.byteswap()
        return values.view(dtype)


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array without elements; its lengths, except for a 0, may be large."""
    try:
        return np.zeros(shape, dtype)
    except ValueError as error:
        raise Damaged from error


@dataclass
class Tensor(Stored):
    """A view of a storage, by offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype | None

    def __post_init__(self) -> None:
        self.storage.views += 1

    def read(self) -> np.ndarray:
        """The view's elements."""
        assert self.dtype is not None
        values = self.storage.values(self.dtype)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        if count == 0:
            return _empty(self.shape, self.dtype)
        # With a stride of 0 a small file could hold a large tensor.
        if count > len(values) or last >= len(values):
            raise Damaged
        steps = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, steps, writeable=False
        )


class Unusual(Stored):
    """A tensor that is sparse, quantized or without values."""

    def __init__(self) -> None:
        self.shape, self.dtype = (), None


class DType:
    """A dtype of NumPy, made from its code and then given its byte order."""

    def __init__(self, code: str):
        self.code, self.order = code, "="

    def found(self) -> np.dtype | None:
        """The dtype, if it is of numbers."""
        usual = re.fullmatch(r"[fiubc](1|2|4|8|16)", self.code)
        return np.dtype(self.order + self.code) if usual else None


class Array(Stored):
    """An array of NumPy, which is made empty and then filled."""

    def __init__(self) -> None:
        self.shape, self.dtype = (), None
        self.content: bytes | bytearray | Piece | None = None
        self.order: Literal["C", "F"] = "C"

    def fill(self, shape: Any, dtype: Any, fortran: Any, content: Any) -> None:
        """Take over what a pickle says about an array.

        Raises:
          Damaged: the arguments do not belong together.
        """
        self.shape = whole_numbers(shape)
        if not isinstance(dtype, DType):
            raise Damaged
        self.dtype = dtype.found()
        if self.dtype is None:
            return
        if isinstance(content, str):  # of Python 2
            content = content.encode("latin1")
        if not isinstance(content, bytes | bytearray | Piece):
            raise Damaged
        if len(content) != math.prod(self.shape) * self.dtype.itemsize:
            raise Damaged
        self.content, self.order = content, "F" if fortran else "C"

    def read(self) -> np.ndarray:
        """The values."""
        if self.content is None or self.dtype is None:
            raise Damaged
        if len(self.content) == 0:
            return _empty(self.shape, self.dtype)
        content = self.content.read() if isinstance(self.content, Piece) else self.content
        return np.frombuffer(content, self.dtype).reshape(self.shape, order=self.order)


def whole_numbers(values: Any) -> tuple[int, ...]:
    """A tuple of integers that are not negative, with at most as many as NumPy allows axes.

    Raises:
      Damaged: the values are something else.
    """
    if not isinstance(values, tuple | list) or len(values) > 64:
        raise Damaged
    for value in values:
        if type(value) is not int or not 0 <= value < 2**48:
            raise Damaged
    return tuple(values)
