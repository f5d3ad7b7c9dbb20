"""Arrays and tensors that a file holds, which are read when they are asked for."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Damaged(Exception):
    """What is read is not what any program writes."""


class Stored:
    """An array that a file holds.

    Attributes:
      shape: its lengths.
      dtype: of its elements; None where they are no real numbers of a usual type, or are stored in
        another way than one after the other.
    """

    shape: tuple[int, ...]
    dtype: np.dtype | None

    def read(self) -> np.ndarray:
        """The array.

        Raises:
          Damaged: the file does not hold as many elements.
        """
        raise Damaged


class Storage:
    """Elements one after the other, which tensors are views of."""

    def __init__(
        self, dtype: np.dtype | None, load: Callable[[], bytes | memoryview], swapped: bool = False
    ):
        self.dtype, self.load, self.swapped = dtype, load, swapped
        self._values: dict[np.dtype, np.ndarray] = {}

    @cached_property
    def content(self) -> bytes | memoryview:
        """The bytes of all elements."""
        return self.load()

    def values(self, dtype: np.dtype) -> np.ndarray:
        """The elements as those of a dtype, in this machine's byte order."""
        stored = np.dtype("u2") if dtype == BFLOAT16 else dtype
        if dtype not in self._values:
            count = len(self.content) // stored.itemsize
            values = np.frombuffer(self.content, stored, count) if count else np.zeros(0, stored)
            self._values[dtype] = (values.byteswap() if self.swapped else values).view(dtype)
        return self._values[dtype]


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of no elements, whose lengths besides 0 may be large."""
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
    """A dtype of NumPy, made of its code and then given its byte order."""

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
        self.values: np.ndarray | None = None

    def fill(self, shape: Any, dtype: Any, fortran: Any, content: Any) -> None:
        """Take over what a pickle says of an array.

        Raises:
          Damaged: it does not belong together.
        """
        self.shape = whole_numbers(shape)
        if not isinstance(dtype, DType):
            raise Damaged
        self.dtype = dtype.found()
        if self.dtype is None:
            return
        if isinstance(content, str):  # of Python 2
            content = content.encode("latin1")
        if not isinstance(content, bytes | bytearray):
            raise Damaged
        if len(content) != math.prod(self.shape) * self.dtype.itemsize:
            raise Damaged
        flat = np.frombuffer(content, self.dtype) if content else np.zeros(0, self.dtype)
        self.values = flat.reshape(self.shape, order="F" if fortran else "C")

    def read(self) -> np.ndarray:
        """The values."""
        if self.values is None:
            raise Damaged
        return self.values


def whole_numbers(values: Any) -> tuple[int, ...]:
    """A tuple of integers that are not negative, of as many as NumPy has axes at most.

    Raises:
      Damaged: they are something else.
    """
    if not isinstance(values, tuple | list) or len(values) > 64:
        raise Damaged
    for value in values:
        if type(value) is not int or not 0 <= value < 2**48:
            raise Damaged
    return tuple(values)
