"""Pickles read as data: no name in them is imported, and nothing that they name is called.

A pickle is a program for a small stack machine. The machine here executes the instructions of all
protocols with values of Python's own types and the stand-ins of `pickled_types`; a name that is not
on that module's list ends the reading.
"""

import io
import os
import pathlib
import pickletools
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from ranet_jax.porting import pickled_types
from ranet_jax.porting.pickled_types import Damaged, Name
from ranet_jax.porting.stored import Piece

_MARK = object()
# The most elements that may be copied, as a multiple of the bytes read so far: a file could have
# one list copied again and again.
_COPIES = 4
# Byte strings of this length or more are left in their file.
_LONG = 2**16


def read_pickle(
    file: io.BufferedIOBase,
    persistent: Callable[[Any], Any] | None = None,
    path: pathlib.Path | None = None,
) -> Any:
    """The value that the next pickle of a file describes; the file's position is then behind it.

    Args:
      file: binary file.
      persistent: maps the identifiers by which a pickle names what lies outside of it to values.
      path: path of the file, so that long byte strings stay in it as `Piece`; if not given, they
        are read.

    Raises:
      Damaged: there is no pickle, or it does what no pickle of data does.
      Refused: it names a type that is not known to hold only data.
    """
    machine = _Machine(persistent)
    try:
        with warnings.catch_warnings(action="ignore"):  # about escapes in names
            return machine.run(_Bounded(file, path))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise Damaged from error


class _Bounded:
    """A file that reads no more bytes than it has, whatever length it claims for a text."""

    def __init__(self, file: io.BufferedIOBase, path: pathlib.Path | None):
        self.file, self.path = file, path
        self.tell, self.readline = file.tell, file.readline
        self.start = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(self.start)

    def read(self, length: int) -> bytes:
        return self.file.read(min(length, self.size) if length > 1 else length)

    def find_piece(self, width: int) -> Piece | None:
        """Long bytes after their length of `width` bytes; otherwise None, and nothing is read."""
        start = self.file.tell()
        length = int.from_bytes(self.file.read(width), "little")
        end = start + width + length
        if self.path is None or length < _LONG or end > self.size:
            self.file.seek(start)
            return None
        self.file.seek(end)
        return Piece(self.path, end - length, length)


def _instructions(file: _Bounded) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
    """Instructions with their arguments and positions, up to the end of the pickle."""
    name = ""
    while name != "STOP":
        position = file.tell()
        opcode = _OPCODES.get(file.read(1))
        if opcode is None:
            raise Damaged
        name = opcode.name
        argument = file.find_piece(_WIDTHS[name]) if name in _WIDTHS else None
        if argument is None and opcode.arg is not None:
            argument = opcode.arg.reader(cast(IO[bytes], file))
        yield opcode, argument, position


_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
# Widths of the lengths that precede byte strings.
_WIDTHS = {"BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}


class _Machine:
    """Stack and memo of a pickle that is being read, and what its instructions do to them."""

    def __init__(self, persistent: Callable[[Any], Any] | None):
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, file: _Bounded) -> Any:
        for opcode, argument, position in _instructions(file):
            name = opcode.name
            if name == "STOP":
                break
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif opcode.arg is None:
                _ACTIONS[name](self)
            else:
                _ACTIONS_WITH_ARGUMENT[name](self, argument)
            if self.copied > _COPIES * (position - file.start) + 1000:
                raise Damaged
        return self.pop()

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise Damaged
        return value

    def pop_mark(self) -> list[Any]:
        """The values on the stack from the last mark on, which are removed."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def top(self, kind: type) -> Any:
        """The value on top of the stack, which must be of a kind."""
        if not isinstance(self.stack[-1], kind):
            raise Damaged
        return self.stack[-1]

    def remember(self, index: int) -> None:
        self.memo[index] = self.top(object)

    def recall(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def make_tuple(self, length: int) -> None:
        self.stack.append(tuple([self.pop() for _ in range(length)][::-1]))

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def update(self, values: list[Any]) -> None:
        pairs = zip(values[::2], values[1::2], strict=True)
        self.top(dict).update(pickled_types.mapping(pairs))

    def find(self, module: Any, attribute: Any) -> None:
        self.stack.append(pickled_types.find(module, attribute))

    def make_dict(self) -> None:
        values = self.pop_mark()
        self.stack.append({})
        self.update(values)

    def instantiate(self, text: str) -> None:
        arguments = self.pop_mark()
        self.find(*text.split(" ", 1))
        self.call(self.pop(), tuple(arguments))

    def call_marked(self) -> None:
        name, *arguments = self.pop_mark()
        self.call(name, tuple(arguments))

    def call(self, name: Any, arguments: Any) -> None:
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise Damaged
        self.count(arguments)
        self.stack.append(pickled_types.build(name, arguments))

    def count(self, values: tuple[Any, ...]) -> None:
        """Count what is copied when an object is made from values."""
        self.copied += len(values) + sum(map(_length, values))

    def set_state(self, state: Any) -> None:
        if isinstance(state, tuple):
            self.count(state)
        pickled_types.set_state(self.stack[-1], state)

    def load(self, identifier: Any) -> None:
        if self.persistent is None:
            raise Damaged
        self.stack.append(self.persistent(identifier))


_COPIED = (str, bytes, bytearray, list, dict, tuple)


def _length(value: Any) -> int:
    """How much is copied with an argument; a tensor of a subclass has its arguments in a tuple."""
    parts = value if isinstance(value, tuple) else ()
    return sum(len(each) for each in (value, *parts) if isinstance(each, _COPIED))


# Instructions that push what follows them in the file, and those that push one of three values.
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# A set is a list here: where nothing is hashed, no file can keep the reader hashing for ever.
_ACTIONS: dict[str, Callable[[_Machine], Any]] = {
    "MARK": lambda m: m.stack.append(_MARK),
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda m: m.stack.append(m.top(object)),
    "MEMOIZE": lambda m: m.remember(len(m.memo)),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_SET": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "EMPTY_TUPLE": lambda m: m.stack.append(()),
    "LIST": lambda m: m.stack.append(m.pop_mark()),
    "FROZENSET": lambda m: m.stack.append(m.pop_mark()),
    "TUPLE": lambda m: m.stack.append(tuple(m.pop_mark())),
    "TUPLE1": lambda m: m.make_tuple(1),
    "TUPLE2": lambda m: m.make_tuple(2),
    "TUPLE3": lambda m: m.make_tuple(3),
    "DICT": _Machine.make_dict,
    "APPEND": lambda m: m.extend([m.pop()]),
    "APPENDS": lambda m: m.extend(m.pop_mark()),
    "ADDITEMS": lambda m: m.extend(m.pop_mark()),
    "SETITEM": lambda m: m.update([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m: m.update(m.pop_mark()),
    "STACK_GLOBAL": lambda m: m.find(*[m.pop(), m.pop()][::-1]),
    "REDUCE": lambda m: m.call(*[m.pop(), m.pop()][::-1]),
    "NEWOBJ": lambda m: m.call(*[m.pop(), m.pop()][::-1]),
    # Its last operand, the keyword arguments, is dropped: no type on the list has any.
    "NEWOBJ_EX": lambda m: m.call(*[m.pop(), m.pop(), m.pop()][:0:-1]),
    "OBJ": _Machine.call_marked,
    "BUILD": lambda m: m.set_state(m.pop()),
    "BINPERSID": lambda m: m.load(m.pop()),
}
_ACTIONS_WITH_ARGUMENT: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, version: None,
    "FRAME": lambda m, length: None,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "GLOBAL": lambda m, text: m.find(*text.split(" ", 1)),
    "INST": _Machine.instantiate,
    "PERSID": _Machine.load,
}
