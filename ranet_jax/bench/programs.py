"""The cost of a compiled program, read from its text: launches, cycles, collectives.

Pure functions of the HLO text that a compiler gives (`compiled.as_text()`). Every loop counts as
often as it runs; of a conditional, the costliest branch counts unless the one that runs is known.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ranet_jax.bench.hlo import (
    Computation,
    Instruction,
    Module,
    parse_module,
    shape_bytes,
)
from ranet_jax.bench.hlo_loops import trip_count
from ranet_jax.bench.hlo_values import NOTHING, Tuple, Value, Values, given

# Instructions that start nothing: names of values, and the ends of what was started before.
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("opt-barrier", "add-dependency", "domain", "partition-id", "replica-id"),
}
# Custom calls that name memory or sharding and run nothing.
FREE_CALLS = {
    *("AllocateBuffer", "ConsumeBuffer", "ConcatBitcast", "Sharding"),
    "AssumeGatherIndicesInBound",
}
# Instructions that run other computations.
CONTROL = {"while", "conditional", "call", "async-start"}
# Shapes of single numbers, which a TPU's scalar unit computes in a few cycles.
SCALAR = re.compile(r"\w+\[\]")
COLLECTIVES = {
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"),
    *("collective-permute", "collective-broadcast"),
}


@dataclasses.dataclass(frozen=True)
class Collective:
    """How often a kind of collective runs, and the bytes one device contributes to all of them."""

    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Program:
    """What one run of a compiled program costs on one device, all loops multiplied out.

    Attributes:
      launches: instructions that start something: on a GPU, kernels, library routines and copies;
        on a TPU, where the whole program is launched once, its operations.
      estimated_cycles: the sum of the compiler's own estimates (TPU) and of the kernel cycles that
        the caller gave; None if there are neither.
      unestimated: operations of a TPU's program without an estimate, by kind; kernels by name.
      collectives: exchanges between devices by kind.
      unknown_loops: loops whose number of trips depends on data; their bodies count once.
    """

    launches: int
    estimated_cycles: int | None
    unestimated: dict[str, int]
    collectives: dict[str, Collective]
    unknown_loops: int


@dataclasses.dataclass
class _Cost:
    """What a computation costs; `estimates` counts the operations that have an estimate."""

    launches: int = 0
    cycles: int = 0
    estimates: int = 0
    unknown_loops: int = 0
    unestimated: Counter[str] = dataclasses.field(default_factory=Counter)
    collectives: Counter[str] = dataclasses.field(default_factory=Counter)
    collective_bytes: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, other: "_Cost", times: int = 1) -> None:
        """Add the cost of something that runs `times` times; its unknown loops are counted once."""
        self.launches += times * other.launches
        self.cycles += times * other.cycles
        self.estimates += times * other.estimates
        self.unknown_loops += other.unknown_loops
        self.unestimated.update({k: times * n for k, n in other.unestimated.items()})
        self.add_collectives(other, times)

    def add_collectives(self, other: "_Cost", times: int = 1) -> None:
        """Add only the collectives."""
        self.collectives.update({k: times * n for k, n in other.collectives.items()})
        self.collective_bytes.update({k: times * n for k, n in other.collective_bytes.items()})


def read_program(text: str, kernel_cycles: Mapping[str, int] | None = None) -> Program:
    """Count what a compiled program costs.

    Args:
      text: the compiled HLO module.
      kernel_cycles: cycles of one run of a custom call, by the call's name in the module, for
        kernels for which the compiler has no estimate.

    Raises:
      ValueError: the text is not an HLO module.
    """
    module = parse_module(text)
    total = _Reader(module, kernel_cycles or {}).computation(module.entry)
    return Program(
        launches=total.launches,
        estimated_cycles=total.cycles if total.estimates else None,
        unestimated=dict(total.unestimated) if total.estimates else {},
        collectives={
            kind: Collective(count, total.collective_bytes[kind])
            for kind, count in sorted(total.collectives.items())
        },
        unknown_loops=total.unknown_loops,
    )


class _Reader:
    """Computes the costs of a module's computations."""

    def __init__(self, module: Module, kernel_cycles: Mapping[str, int]):
        self._module, self._kernel_cycles = module, kernel_cycles
        self._fixed: dict[str, _Cost] = {}
        self._operations: dict[str, tuple[_Cost, list[Instruction]]] = {}
        self._varies: dict[str, bool] = {}

    def computation(self, name: str, parameters: Tuple = NOTHING) -> _Cost:
        """What one run of a computation costs, given the values of its parameters."""
        if not self._has_varying_loops(name):
            if name not in self._fixed:
                self._fixed[name] = self._run(name, NOTHING)
            return self._fixed[name]
        return self._run(name, parameters)

    def _has_varying_loops(self, name: str) -> bool:
        """Whether a computation has loops with trip counts that depend on its parameters."""
        if name not in self._varies:
            computation = self._module.computations[name]
            values = Values(self._module, computation)
            self._varies[name] = any(
                (
                    instruction.opcode == "while"
                    and trip_count(self._module, instruction, values.get(instruction.operands[0]))
                    is None
                )
                or any(map(self._has_varying_loops, _runs(instruction)))
                for instruction in computation.instructions.values()
            )
        return self._varies[name]

    def _run(self, name: str, parameters: Tuple) -> _Cost:
        operations, control = self._split(name)
        total = _Cost()
        total.add(operations)
        values = Values(self._module, self._module.computations[name], parameters)
        for instruction in control:
            operands = values.operands(instruction)
            if instruction.opcode == "while":
                self._add_loop(total, instruction, operands.element(0))
            elif instruction.opcode == "conditional":
                self._add_branch(total, instruction, operands)
            else:
                for called in _runs(instruction):
                    total.add(self.computation(called, operands))
        return total

    def _split(self, name: str) -> tuple[_Cost, list[Instruction]]:
        """Cost of a computation's own operations, and the instructions that run others."""
        if name not in self._operations:
            computation, operations, control = self._module.computations[name], _Cost(), []
            for instruction in computation.instructions.values():
                if instruction.opcode in CONTROL:
                    control.append(instruction)
                elif not _is_free(instruction):
                    self._add_operation(operations, computation, instruction)
            self._operations[name] = operations, control
        return self._operations[name]

    def _add_loop(self, total: _Cost, loop: Instruction, state: Value) -> None:
        """Add the body for each trip, and the condition one more time than the body.

        The condition is not counted if the compiler states the number of trips. If that number is
        unknown, both count once.
        """
        trips, body = trip_count(self._module, loop, state), loop.called("body")
        total.unknown_loops += trips is None
        times = 1 if trips is None else trips
        if "known_trip_count" not in loop.attributes:
            total.add(self.computation(loop.called("condition")), times + (trips is not None))
        if not self._has_varying_loops(body):
            total.add(self.computation(body), times)
            return
        loops, passed, seen = 0, _Cost(), dict[int, Value]()
        for number in range(times):
            # A pass costs the same as the one before if what mattered there is unchanged.
            if number == 0 or not all(_same(state.peek(i), value) for i, value in seen.items()):
                passed = self.computation(body, given(state))
                loops = max(loops, passed.unknown_loops)
                passed = dataclasses.replace(passed, unknown_loops=0)
                if isinstance(state, Tuple):
                    seen = {index: state.peek(index) for index in state.read}
            total.add(passed)
            state = self._next_state(body, state)
        total.unknown_loops += loops

    def _next_state(self, body: str, state: Value) -> Value:
        """The state after a pass of a loop; the elements that passes read are computed now."""
        if not isinstance(state, Tuple):
            return None
        computation = self._module.computations[body]
        parameters = given(state)
        result = Values(self._module, computation, parameters).root()
        if not isinstance(result, Tuple):
            return None
        for index in sorted(state.read):
            result.peek(index)
        return result

    def _add_branch(self, total: _Cost, choice: Instruction, operands: Tuple) -> None:
        """Add the branch that runs, if that is known, or the costliest."""
        costs = [
            self.computation(name, Tuple([functools.partial(operands.element, index)]))
            for index, name in enumerate(choice.branches(), 1)
        ]
        chosen = operands.element(0)
        if chosen is None:
            total.add(max(costs, key=lambda cost: (cost.cycles, cost.launches)))
        elif chosen.dtype == np.bool_:
            total.add(costs[0 if chosen else 1])
        else:  # if out of range, the last branch runs
            total.add(costs[int(chosen) if 0 <= chosen < len(costs) else -1])

    def _add_operation(self, total: _Cost, within: Computation, instruction: Instruction) -> None:
        target = re.search(r'\bcustom_call_target="([^"]*)"', instruction.attributes)
        total.launches += 1
        if instruction.opcode == "fusion":
            total.add_collectives(self.computation(instruction.called("calls")))
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            operands = (within.instructions[name].shape for name in instruction.operands)
            total.collectives[kind] += 1
            total.collective_bytes[kind] += sum(map(shape_bytes, operands))
        cycles = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
        if instruction.name in self._kernel_cycles:
            total.cycles += self._kernel_cycles[instruction.name]
            total.estimates += 1
        elif cycles:
            total.cycles += int(cycles[1])
            total.estimates += 1
        elif not SCALAR.match(instruction.shape):
            name = f"{instruction.opcode} {target[1]}" if target else instruction.opcode
            total.unestimated[name] += 1


def _runs(instruction: Instruction) -> list[str]:
    """Names of the computations that an instruction runs, except for a loop's condition."""
    attribute = {"while": "body", "call": "to_apply", "async-start": "calls"}
    if instruction.opcode == "conditional":
        return instruction.branches()
    found = instruction.called(attribute.get(instruction.opcode, "-"))
    return [found] if found else []


def _same(one: Value, other: Value) -> bool:
    if one is None or other is None or isinstance(one, Tuple) or isinstance(other, Tuple):
        return one is other
    return np.array_equal(one, other)


def _is_free(instruction: Instruction) -> bool:
    if instruction.opcode in FREE or instruction.opcode.endswith(("-done", "-update")):
        return True
    return any(f'"{target}"' in instruction.attributes for target in FREE_CALLS)
