"""Parse the text of a compiled HLO module into computations and their instructions."""

import dataclasses
import math
import re

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction; `operand_text` has names or a constant's value, `attributes` the rest."""

    name: str
    opcode: str
    shape: str
    operand_text: str
    attributes: str

    @property
    def operands(self) -> list[str]:
        """Names of the instructions whose results this one takes."""
        return _NAME.findall(self.operand_text)

    def called(self, attribute: str) -> str:
        """Name of the computation that an attribute such as `body` names, "" for none."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""

    def branches(self) -> list[str]:
        """Names of a conditional's computations."""
        listed = re.search(r"\bbranch_computations=\{([^}]*)\}", self.attributes)
        if listed:
            return _NAME.findall(listed[1])
        return [self.called("true_computation"), self.called("false_computation")]


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in their order; `root` is the name of the result."""

    name: str
    instructions: dict[str, Instruction]
    root: str

    def element(self, index: int) -> Instruction | None:
        """The instruction that makes an element of the tuple that the computation returns."""
        root = self.instructions[self.root]
        if root.opcode != "tuple":
            return None
        return self.instructions.get(root.operands[index])


@dataclasses.dataclass(frozen=True)
class Module:
    """Computations by name; `entry` is the name of the first that runs."""

    entry: str
    computations: dict[str, Computation]


def parse_module(text: str) -> Module:
    """Parse the text of a compiled module (`compiled.as_text()`).

    Raises:
      ValueError: no computation is marked as the entry.
    """
    entry, computations = None, {}
    name, root, instructions = "", "", dict[str, Instruction]()
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            name, root, instructions = header[2], "", {}
            entry = name if header[1] else entry
        elif line.startswith("}"):
            root = root or next(reversed(instructions), "")
            computations[name] = Computation(name, instructions, root)
        elif found := _INSTRUCTION.match(line):
            instruction = _parse_instruction(found[2], line[found.end() :])
            instructions[instruction.name] = instruction
            root = instruction.name if found[1] else root
    if entry is None:
        raise ValueError("The text holds no entry computation; it is not an HLO module.")
    return Module(entry, computations)


def _parse_instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode = _OPCODE.match(text, end)
    if opcode is None:
        raise ValueError(f"Instruction {name!r} of the HLO module has no operation: {text[:80]!r}.")
    close = _closing(text, opcode.end() - 1)
    return Instruction(
        name, opcode[1], text[:end], text[opcode.end() : close], text[close + 1 :].lstrip(", ")
    )


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if not depth:
            return index
    raise ValueError(f"A parenthesis of the HLO module is not closed: {text[:80]!r}.")


def shape_bytes(shape: str) -> int:
    """Bytes of the arrays of a shape such as `(f32[8,128]{1,0:T(8,128)}, s32[])`, unpadded."""
    return sum(
        math.ceil(math.prod(map(int, filter(None, sizes.split(",")))) * _bits(kind) / 8)
        for kind, sizes in _ARRAY.findall(re.sub(r"\{[^{}]*\}", "", shape))
    )


def _bits(kind: str) -> int:
    if kind == "pred":
        return 8
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else 0


def shape_parts(shape: str) -> tuple[str, tuple[int, ...]]:
    """Type and sizes of an array's shape, such as ("f32", (8, 128)); of a tuple's first array."""
    found = _ARRAY.search(shape)
    if found is None:
        return "", ()
    return found[1], tuple(int(size) for size in found[2].split(",") if size)
