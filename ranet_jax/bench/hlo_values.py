"""Compute integers of a compiled program that do not depend on data, such as loop bounds."""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ranet_jax.bench.hlo import Computation, Instruction, Module, shape_parts

# Arrays with more entries are not followed.
MOST_ENTRIES = 1024

TYPES = {
    "pred": np.bool_,
    **{f"s{bits}": np.dtype(f"int{bits}").type for bits in (8, 16, 32, 64)},
    **{f"u{bits}": np.dtype(f"uint{bits}").type for bits in (8, 16, 32, 64)},
}

# An array of integers or booleans, a `Tuple` of values, or None if unknown.
Value = Any


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quotient without its fraction, as in C."""
    signs = np.sign(a) * np.sign(b)
    return signs * (np.abs(a) // np.where(b == 0, 1, np.abs(b)))


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": _divide,
    "remainder": lambda a, b: a - b * _divide(a, b),
    "minimum": np.minimum,
    "maximum": np.maximum,
    "negate": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": np.invert,
    "select": np.where,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "shift-left": np.left_shift,
    "shift-right-arithmetic": np.right_shift,
}
COMPARISONS: dict[str, Callable[..., Any]] = {
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "EQ": np.equal,
    "NE": np.not_equal,
}
# Operations that return their first operand.
SAME = {"copy", "copy-start", "copy-done", "bitcast", "reshape", "convert", "opt-barrier"}

FOLLOWED = SAME | {*ELEMENTWISE, "compare", "broadcast", "dynamic-slice", "slice"}


class Tuple:
    """Values in order, each computed when it is first requested; `read` records which were."""

    def __init__(self, makers: Sequence[Callable[[], Value]]):
        self._makers = makers
        self._known: dict[int, Value] = {}
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(self._makers)

    def element(self, index: int) -> Value:
        """Value at an index, None if the index is out of range."""
        self.read.add(index)
        return self.peek(index)

    def peek(self, index: int) -> Value:
        """As `element`, without recording the read."""
        if index not in self._known:
            self._known[index] = self._makers[index]() if index < len(self) else None
        return self._known[index]


def given(*values: Value) -> Tuple:
    """A tuple of values that are known already."""
    return Tuple([functools.partial(_itself, value) for value in values])


def _itself(value: Value) -> Value:
    return value


NOTHING = given()


class Values:
    """Values of a computation's instructions, given those of its parameters."""

    def __init__(self, module: Module, computation: Computation, parameters: Tuple = NOTHING):
        self._module, self._computation = module, computation
        self._parameters = parameters
        self._known: dict[str, Value] = {}

    def get(self, name: str) -> Value:
        """Value of an instruction's result, None if it is not known."""
        if name not in self._known:
            instruction = self._computation.instructions.get(name)
            self._known[name] = None if instruction is None else self._evaluate(instruction)
        return self._known[name]

    def root(self) -> Value:
        """Value of what the computation returns."""
        return self.get(self._computation.root)

    def operands(self, instruction: Instruction) -> Tuple:
        """Values of an instruction's operands."""
        return Tuple([functools.partial(self.get, operand) for operand in instruction.operands])

    def _evaluate(self, instruction: Instruction) -> Value:
        opcode = instruction.opcode
        if opcode == "parameter":
            return self._parameters.element(int(instruction.operand_text))
        if opcode == "tuple":
            return self.operands(instruction)
        if opcode == "get-tuple-element":
            value, index = self.get(instruction.operands[0]), _number(instruction, "index")
            return value.element(index) if isinstance(value, Tuple) else None
        if opcode == "while":
            return self._after_loop(instruction)
        if opcode in ("copy-start", "copy-done", "opt-barrier"):
            return self.get(instruction.operands[0])
        if opcode in ("fusion", "call"):
            name = instruction.called("calls" if opcode == "fusion" else "to_apply")
            called = self._module.computations[name]
            return Values(self._module, called, self.operands(instruction)).root()
        kind, sizes = shape_parts(instruction.shape)
        if kind not in TYPES or math.prod(sizes) > MOST_ENTRIES:
            return None
        result = self._array(instruction, TYPES[kind], sizes)
        if not isinstance(result, np.ndarray | np.generic):
            return None
        with np.errstate(over="ignore"):
            return np.asarray(result).astype(TYPES[kind]).reshape(sizes)

    def _array(self, instruction: Instruction, kind: type, sizes: tuple[int, ...]) -> Value:
        opcode = instruction.opcode
        if opcode == "constant":
            return _constant(instruction.operand_text, kind)
        if opcode == "iota":
            axis = _number(instruction, "iota_dimension")
            return np.indices(sizes)[axis] if sizes else np.zeros((), np.int64)
        if opcode not in FOLLOWED:
            return None
        operands = [self.get(operand) for operand in instruction.operands]
        if any(not isinstance(operand, np.ndarray) for operand in operands):
            return None
        if opcode in SAME:
            return operands[0]
        if opcode in ELEMENTWISE:
            with np.errstate(all="ignore"):
                return np.asarray(ELEMENTWISE[opcode](*operands))
        if opcode == "compare":
            direction = re.search(r"\bdirection=(\w\w)", instruction.attributes)
            return np.asarray(COMPARISONS[direction[1]](*operands)) if direction else None
        if opcode == "broadcast" and operands[0].size == 1:
            return np.broadcast_to(operands[0].reshape(()), sizes)
        if opcode == "dynamic-slice":
            array, *starts = operands
            return _slice(array, [int(start) for start in starts], sizes)
        if opcode == "slice":
            bounds = re.search(r"\bslice=\{([^}]*)\}", instruction.attributes)
            parts = re.findall(r"\[(\d+):(\d+)(?::(\d+))?\]", bounds[1] if bounds else "")
            return operands[0][tuple(slice(*(int(x) for x in p if x)) for p in parts)]
        return None

    def _after_loop(self, loop: Instruction) -> Value:
        """State after a loop; only elements that the loop leaves unchanged are known."""
        state = self.get(loop.operands[0])
        body = self._module.computations[loop.called("body")]
        if not isinstance(state, Tuple):
            return None

        def make(index: int) -> Value:
            return state.element(index) if unchanged(self._module, body, index) else None

        return Tuple([functools.partial(make, index) for index in range(len(state))])


def unchanged(module: Module, body: Computation, index: int) -> bool:
    """Whether a loop's body leaves an element of its tuple unchanged, loops within it included."""
    instruction = body.element(index)
    while instruction is not None:
        source = body.instructions.get(next(iter(instruction.operands), ""))
        if instruction.opcode in SAME:
            instruction = source
            continue
        if instruction.opcode != "get-tuple-element" or source is None:
            return False
        element = _number(instruction, "index")
        if source.opcode == "parameter":
            return element == index
        if source.opcode == "while":
            inner = module.computations[source.called("body")]
            if not unchanged(module, inner, element):
                return False
            source = body.instructions.get(source.operands[0])
        if source is None or source.opcode != "tuple":
            return False
        instruction = body.instructions.get(source.operands[element])
    return False


def _number(instruction: Instruction, attribute: str) -> int:
    found = re.search(rf"\b{attribute}=(\d+)", instruction.attributes)
    return int(found[1]) if found else 0


def _constant(text: str, kind: type) -> Value:
    if "..." in text:
        return None
    words = re.findall(r"true|false|-?\d+", text)
    return np.array([word == "true" if kind is np.bool_ else int(word) for word in words])


def _slice(array: np.ndarray, starts: list[int], sizes: tuple[int, ...]) -> np.ndarray:
    """A slice, moved to lie within the array as XLA does."""
    if len(sizes) != array.ndim:
        return array[:0]
    inside = (
        min(max(start, 0), length - size)
        for start, length, size in zip(starts, array.shape, sizes, strict=True)
    )
    return array[tuple(slice(i, i + size) for i, size in zip(inside, sizes, strict=True))]
