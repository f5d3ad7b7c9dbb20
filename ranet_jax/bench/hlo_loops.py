"""How often the loops of a compiled program run."""

import math
import re

import numpy as np

from ranet_jax.bench.hlo import Computation, Instruction, Module
from ranet_jax.bench.hlo_values import Tuple, Value, Values, given, unchanged


def trip_count(module: Module, loop: Instruction, state: Value) -> int | None:
    """How often a `while` runs its body; None if that depends on data.

    The number is what the compiler says. Otherwise it follows from a condition that compares a
    counter with a number, from the start of the counter, and from the constant that the body adds
    to it.

    Args:
      module: the module that contains the loop.
      loop: the `while` instruction.
      state: values of the tuple that the loop starts from, as far as known.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    compared = _comparison(module, module.computations[loop.called("condition")])
    if compared is None or not isinstance(state, Tuple):
        return None
    direction, sides = compared
    body = module.computations[loop.called("body")]
    found = [(_side_start(side, state), _side_step(module, body, side)) for side in sides]
    known_sides = [(start, step) for start, step in found if start is not None and step is not None]
    if len(known_sides) < 2:
        return None
    # The distance of the counter from its limit, and by how much each pass reduces it.
    (left, by_left), (right, by_right) = known_sides
    distance, step = right - left, by_left - by_right
    if direction in ("GT", "GE"):
        distance, step = -distance, -step
    if direction in ("LE", "GE"):
        distance += 1
    if distance <= 0:
        return 0
    return math.ceil(distance / step) if step > 0 else None


# A side of a comparison: a constant, or the index of an element of the loop's tuple.
Side = tuple[str, int]


def _comparison(module: Module, condition: Computation) -> tuple[str, list[Side]] | None:
    """Direction and sides of the comparison that a loop's condition ends with."""
    compare = condition.instructions[condition.root]
    sides = [_side(condition, operand) for operand in compare.operands]
    if compare.opcode == "fusion":
        inner, outer = module.computations[compare.called("calls")], sides
        compare = inner.instructions[inner.root]
        sides = []
        for operand in compare.operands:
            side = _side(inner, operand)
            sides.append(outer[side[1]] if side is not None and side[0] == "parameter" else side)
    direction = re.search(r"\bdirection=(L[TE]|G[TE])\b", compare.attributes)
    found = [side for side in sides if side is not None and side[0] != "parameter"]
    if compare.opcode != "compare" or direction is None or len(found) != 2:
        return None
    return direction[1], found


def _side(computation: Computation, name: str) -> Side | None:
    instruction = computation.instructions.get(name)
    while instruction is not None and instruction.opcode in ("copy", "bitcast", "convert"):
        instruction = computation.instructions.get(instruction.operands[0])
    if instruction is None:
        return None
    text = instruction.operand_text
    if instruction.opcode == "get-tuple-element":
        kind, number = "element", re.search(r"\bindex=(\d+)", instruction.attributes)
    else:
        kind, number = instruction.opcode, re.fullmatch(r"(-?\d+)", text)
    if kind not in ("constant", "parameter", "element") or number is None:
        return None
    return kind, int(number[1])


def _side_start(side: Side, state: Tuple) -> int | None:
    kind, number = side
    value = number if kind == "constant" else state.element(number)
    return None if value is None or np.size(value) != 1 else int(np.reshape(value, ()))


def _side_step(module: Module, body: Computation, side: Side) -> int | None:
    """What a pass adds to a side, None if that is not a constant."""
    kind, index = side
    if kind == "constant" or unchanged(module, body, index):
        return 0
    element, ends = body.element(index), []
    if element is None:
        return None
    for start in (0, 1000):
        state: list[Value] = [None] * index + [np.array(start, np.int32)]
        result = Values(module, body, given(given(*state))).get(element.name)
        if result is None or np.size(result) != 1:
            return None
        ends.append(int(np.reshape(result, ())))
    return ends[0] if ends[1] - ends[0] == 1000 else None
