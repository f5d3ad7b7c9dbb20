"""Cycles of a TPU kernel, from the instructions that its compiler schedules.

XLA has no estimate for a Pallas kernel, but writes out what it compiles the kernel to: bundles of
instructions, with branches between them. A core starts one bundle per cycle.

       0x2f LB: >> { %v143_v4 = vmul.f32 1.5, %v436_v2  ;;  %s139_s25 = sadd.s32 1, %s440_s25 }
       0x30   : >> { %p138_p13 = scmp.ge.s32.totalorder %s139_s25, 7 }
       0x31   : >> { %141 = sbr.rel (!%p138_p13) target = $region76 }

Counters and the values that they are compared with are computed as a core would, and the bundles on
the way are counted. Waits for memory are not included.
"""

import bisect
import dataclasses
import operator
import re
from collections.abc import Callable, Iterator

from ranet_jax.bench.targets import Target

# Most blocks that are followed; a kernel that runs more is given up as too long.
MOST_STEPS = 3_000_000

_BUNDLE = re.compile(r"^ *(?:0x)?[0-9a-f]+ [ A-Z]*: [ >]*\{", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_REGION = re.compile(r"Start(?:/End empty)? region (\d+)\b")
_INSTRUCTION = re.compile(r"(?:%(\w+) = )?([\w.]+)(.*)", re.DOTALL)
_PREDICATE = re.compile(r"^\s*\((!?)%(\w+)(?:, ([^)]*))?\),?")
# Where the compiler puts scalars that it has no register for.
_SPILL = re.compile(r"^ \[smem:\[#allocation(\d+)_spill\]\]")
_TARGET = re.compile(r"target = \$region(\d+)")

Value = int | None


def _compared(compare: Callable[[int, int], bool]) -> dict[str, Callable[[int, int], int]]:
    name = f"scmp.{compare.__name__}"
    return {
        f"{name}.s32.totalorder": lambda a, b: int(compare(a, b)),
        f"{name}.u32.totalorder": lambda a, b: int(compare(_unsigned(a), _unsigned(b))),
    }


def _unsigned(value: int) -> int:
    return value & 0xFFFFFFFF


def _signed(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


# Operations of a core's scalar unit on 32-bit numbers and on predicates, 0 or 1.
OPERATIONS: dict[str, Callable[..., int]] = {
    "smov": lambda a: a,
    "sadd.s32": operator.add,
    "ssub.s32": operator.sub,
    "smul.u32": operator.mul,
    "smul.s32": operator.mul,
    "sand.u32": operator.and_,
    "sor.u32": operator.or_,
    "sxor.u32": operator.xor,
    "sshll.u32": lambda a, b: a << b,
    "sshra.s32": lambda a, b: a >> b,
    "sshrl.u32": lambda a, b: _unsigned(a) >> b,
    "smin.s32": min,
    "smax.s32": max,
    "smin.u32": lambda a, b: min(_unsigned(a), _unsigned(b)),
    "smax.u32": lambda a, b: max(_unsigned(a), _unsigned(b)),
    "scalar_select": lambda p, a, b: a if p else b,
    "pmov": lambda p: p,
    "pneg": lambda p: 1 - p,
    "por": lambda p, q: p | q,
    "pand": lambda p, q: p & q,
    "pnand": lambda p, q: 1 - (p & q),
    "pnor": lambda p, q: 1 - (p | q),
    "pxor": lambda p, q: p ^ q,
}
for _compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
    OPERATIONS |= _compared(_compare)
# Of these, the operations that add, and the comparisons whose answer changes at most once as a
# number grows.
SUMS = {"smov", "sadd.s32", "ssub.s32"}
ORDERED = re.compile(r"scmp\.(lt|le|gt|ge)\.s32\.totalorder")


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """Sets a scalar register; to `otherwise`, if that is given, where `predicate` is false."""

    register: str
    operation: str
    operands: tuple[str, ...]
    predicate: str | None
    negated: bool
    otherwise: str | None


@dataclasses.dataclass(frozen=True)
class _Branch:
    predicate: str | None
    negated: bool
    region: str


@dataclasses.dataclass(frozen=True)
class _Bundle:
    """A bundle of instructions; `regions` are those that start here."""

    regions: frozenset[str]
    instructions: tuple[_Instruction, ...]
    branch: _Branch | None


@dataclasses.dataclass(frozen=True)
class _Block:
    """Bundles that run one after another: their instructions, and the branch that ends them.

    The branch's predicate is read after the first `read_at` instructions. `target` is the index
    of the block that the branch goes to, `following` the index of the next block.
    """

    bundles: int
    instructions: tuple[_Instruction, ...]
    read_at: int
    branch: _Branch | None
    target: int
    following: int


def kernel_cycles(text: str, delay_slots: int) -> int | None:
    """Bundles that a core issues in one run of a kernel, None if that depends on data.

    Code that a branch skips or not, depending on data, counts as run. If a loop's end depends on
    data, the answer is None.

    Args:
      text: the kernel's schedule, the compiler's `…final_bundles.txt`.
      delay_slots: bundles that still run after a branch, a property of the chip.
    """
    return _run(_blocks(_parse(text), delay_slots))


def _parse(text: str) -> list[_Bundle]:
    starts = [found.start() for found in _BUNDLE.finditer(text)]
    bundles = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        line = text[start:end]
        regions = frozenset(_REGION.findall(" ".join(_COMMENT.findall(line))))
        body = _COMMENT.sub("", line).partition("{")[2].rpartition("}")[0]
        instructions, branch = [], None
        for part in body.split(";;"):
            found = _INSTRUCTION.match(part.strip())
            if found is None:
                continue
            register, operation, rest = found.groups()
            spill = _SPILL.match(rest) if operation in ("sst", "sld") else None
            rest = rest[spill.end() :] if spill else rest
            predicate = _PREDICATE.match(rest)
            rest = rest[predicate.end() :] if predicate else rest
            name, negated, otherwise = None, False, None
            if predicate:
                name, negated, otherwise = predicate[2], bool(predicate[1]), predicate[3]
            if spill:  # read and written like a register
                slot = f"spill{spill[1]}"
                register, rest = (slot, rest) if operation == "sst" else (register, f"%{slot}")
                operation = "smov"
            if operation == "sbr.rel":
                target = _TARGET.search(rest)
                branch = _Branch(name, negated, target[1] if target else "")
            elif register is not None and register[0] in "sp":
                operands = tuple(operand.strip() for operand in rest.split(","))
                instructions.append(
                    _Instruction(register, operation, operands, name, negated, otherwise)
                )
        # Registers that carry a value from one pass of a loop to the next are set at its start.
        instructions.sort(key=lambda instruction: not instruction.operation.endswith("phi"))
        bundles.append(_Bundle(regions, tuple(instructions), branch))
    return _needed(bundles)


def _names(instruction: _Instruction) -> Iterator[str]:
    """Registers that an instruction reads."""
    for operand in (*instruction.operands, instruction.otherwise or ""):
        if operand.startswith("%"):
            yield operand[1:]
    if instruction.predicate is not None:
        yield instruction.predicate


def _needed(bundles: list[_Bundle]) -> list[_Bundle]:
    """The bundles with only the instructions that a branch depends on."""
    sources: dict[str, set[str]] = {}
    for bundle in bundles:
        for instruction in bundle.instructions:
            sources.setdefault(instruction.register, set()).update(_names(instruction))
    waiting = [bundle.branch.predicate for bundle in bundles if bundle.branch is not None]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name is not None and name not in needed:
            needed.add(name)
            waiting.extend(sources.get(name, ()))
    return [
        dataclasses.replace(
            bundle, instructions=tuple(i for i in bundle.instructions if i.register in needed)
        )
        for bundle in bundles
    ]


def _blocks(bundles: list[_Bundle], delay_slots: int) -> list[_Block]:
    branches = {i: bundle.branch for i, bundle in enumerate(bundles) if bundle.branch is not None}
    targets = {i: _destination(bundles, branch.region) for i, branch in branches.items()}
    leaders = sorted({0, *targets.values(), *(i + 1 + delay_slots for i in branches)})
    leaders = [leader for leader in leaders if leader < len(bundles)]
    numbers = {leader: number for number, leader in enumerate(leaders)}
    blocks = []
    for number, (start, end) in enumerate(zip(leaders, [*leaders[1:], len(bundles)], strict=True)):
        instructions: list[_Instruction] = []
        read_at, branch, target = 0, None, number + 1
        for index in range(start, end):
            if index in branches and branch is not None:
                # Overlapping branches count as an unknown one to this block: there is no answer.
                branch, target = _Branch("", False, ""), number
            elif index in branches:
                read_at, branch = len(instructions), branches[index]
                target = numbers.get(targets[index], len(leaders))
            instructions += bundles[index].instructions
        blocks.append(_Block(end - start, tuple(instructions), read_at, branch, target, number + 1))
    return blocks


def _destination(bundles: list[_Bundle], region: str) -> int:
    for index, bundle in enumerate(bundles):
        if region in bundle.regions:
            return index
    return len(bundles)


class _Registers:
    """Values of scalar registers, None where unknown, and the order in which they were set."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self._set_at: dict[str, int] = {}
        self._time = 0

    def read(self, operand: str) -> Value:
        """Value of a register or of a literal number."""
        if operand.startswith("%"):
            return self.values.get(operand[1:])
        return _signed(int(operand)) if re.fullmatch(r"-?\d+", operand) else None

    def holds(self, predicate: str | None, negated: bool) -> bool | None:
        """Whether a predicate is true; None if that is unknown."""
        if predicate is None:
            return True
        value = self.values.get(predicate)
        return None if value is None else bool(value) != negated

    def execute(self, instruction: _Instruction) -> None:
        """Set an instruction's register."""
        runs = self.holds(instruction.predicate, instruction.negated)
        if runs is False and instruction.otherwise is None:
            return
        value = self._result(instruction) if runs else None
        if runs is False:
            value = self.read(instruction.otherwise or "")
        self._time += 1
        self.values[instruction.register] = value
        self._set_at[instruction.register] = self._time

    def _result(self, instruction: _Instruction) -> Value:
        if instruction.operation.endswith("phi"):  # takes the operand that was set last
            latest = max(instruction.operands, key=lambda name: self._set_at.get(name[1:], -1))
            return self.read(latest)
        operation = OPERATIONS.get(instruction.operation)
        values = [self.read(operand) for operand in instruction.operands]
        known = [value for value in values if value is not None]
        if operation is None or len(known) < len(values):
            return None
        return _signed(operation(*known))


def _run(blocks: list[_Block]) -> int | None:
    registers, cycles, number = _Registers(), 0, 0
    for _ in range(MOST_STEPS):
        if number >= len(blocks):
            return cycles
        block = blocks[number]
        cycles += block.bundles
        taken = _execute(block, registers)
        if taken is None and block.target <= number:
            return None
        if taken and block.target == number:
            cycles += block.bundles * _skip_passes(block, registers)
        number = block.target if taken else block.following
    return None


def _execute(block: _Block, registers: _Registers) -> bool | None:
    """Run a block's instructions; return whether its branch is taken, None if unknown."""
    for instruction in block.instructions[: block.read_at]:
        registers.execute(instruction)
    taken: bool | None = False
    if block.branch is not None:
        taken = registers.holds(block.branch.predicate, block.branch.negated)
    for instruction in block.instructions[block.read_at :]:
        registers.execute(instruction)
    return taken


def _skip_passes(block: _Block, registers: _Registers) -> int:
    """Skip passes of a loop of one block: set the registers as after them, and return their number.

    All remaining passes but the last are skipped if each pass adds a constant to every register
    that carries a value to the next one, and if the loop ends by an order comparison of two numbers
    that grow in this way; otherwise none.
    """
    inside = {instruction.register: instruction for instruction in block.instructions}
    steps, carriers = dict[str, int](), dict[str, int]()
    for name, instruction in inside.items():
        if not instruction.operation.endswith("phi"):
            continue
        carried = [operand for operand in instruction.operands if operand[1:] in inside]
        found = _offset(carried[0], inside, registers) if len(carried) == 1 else None
        if found is None or found[0] != name:
            return 0
        steps[name] = carriers[carried[0][1:]] = found[1]
    branch = block.branch
    test = inside.get(branch.predicate) if branch and branch.predicate else None
    if branch is None or test is None or not ORDERED.fullmatch(test.operation):
        return 0
    sides = []
    for operand in test.operands:
        found, value = _offset(operand, inside, registers), registers.read(operand)
        if found is None or value is None or test.predicate is not None:
            return 0
        sides.append((value, steps.get(found[0] or "", 0)))

    def ends(passes: int) -> bool:
        compared = OPERATIONS[test.operation](*(value + passes * step for value, step in sides))
        return bool(compared) == branch.negated

    last = 1
    while not ends(last):
        last *= 2
        if last >= 2**31:
            return 0
    skipped = bisect.bisect_left(range(last + 1), True, lo=1, key=ends) - 1
    for name, step in carriers.items():
        value = registers.values[name]
        registers.values[name] = None if value is None else value + skipped * step
    return skipped


def _offset(
    operand: str, inside: dict[str, _Instruction], registers: _Registers
) -> tuple[str | None, int] | None:
    """An operand as a register that carries a value into this pass, if any, plus a constant."""
    instruction = inside.get(operand[1:])
    if instruction is None:
        value = registers.read(operand)
        return None if value is None else (None, value)
    if instruction.operation.endswith("phi"):
        return instruction.register, 0
    if instruction.predicate is not None or instruction.operation not in SUMS:
        return None
    parts = [_offset(each, inside, registers) for each in instruction.operands]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if len(known) == 1:
        return known[0]
    (left, first), (right, second) = known
    if instruction.operation == "ssub.s32":
        return None if right is not None else (left, first - second)
    return None if left is not None and right is not None else (left or right, first + second)


def read_kernels(target: Target, text: str) -> dict[str, int | None]:
    """Cycles of one run of each kernel of a program just compiled, by its name in the program.

    The files that the compiler wrote for the program are removed.

    Args:
      target: what it was compiled for.
      text: the compiled HLO module.
    """
    if target.schedules is None:
        return {}
    names = set(re.findall(r'%([\w.\-]+) = [^\n]*custom_call_target="tpu_custom_call"', text))
    found: dict[str, int | None] = dict.fromkeys(sorted(names))
    for path in target.schedules.iterdir():
        name = re.fullmatch(r"\d+-(.*)-\d+-final_bundles\.txt", path.name)
        if name and name[1] in names:
            found[name[1]] = kernel_cycles(path.read_text(), target.delay_slots)
        path.unlink()
    return found
