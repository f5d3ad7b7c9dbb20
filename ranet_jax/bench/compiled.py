"""Compile a program for an absent machine, and report what the compiler says about it."""

import dataclasses
import importlib.metadata
import re
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
from jaxlib._jax import HloPrintOptions

from ranet_jax.bench.bundles import read_kernels
from ranet_jax.bench.programs import Program, read_program
from ranet_jax.bench.targets import Target

# Distributions whose versions a result depends on.
COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")
# Columns of a table, and the attributes of `Memory` that they show.
MEMORY = {
    "arguments (MB)": "arguments",
    "temporary (MB)": "temporary",
    "updated in place (MB)": "aliased",
    "total (MB)": "total",
}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device's memory that a compiler plans for a program.

    `aliased` is the part of the results that takes the place of arguments, `temporary` is for
    values between arguments and results, and `code` is the program itself.
    """

    arguments: int
    results: int
    aliased: int
    temporary: int
    code: int

    @property
    def total(self) -> int:
        """What one device must hold at once."""
        return self.arguments + self.results - self.aliased + self.temporary + self.code


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiler makes of a program for one device of an absent machine.

    `refusal` is the compiler's message about a program that is too large for the chip; `memory` and
    `program` are None then. `kernels` are cycles of one run of each kernel for which the compiler
    has no estimate, None if the kernel's loops depend on data.
    """

    compile_seconds: float
    memory: Memory | None = None
    program: Program | None = None
    kernels: dict[str, int | None] = dataclasses.field(default_factory=dict)
    refusal: str | None = None


def compile_lowered(lowered: jax.stages.Lowered, target: Target) -> Compiled:
    """Compile what was lowered for the devices of `target`; nothing is run."""
    start = time.perf_counter()
    try:
        compiled = lowered.compile(compiler_options=dict(target.compiler_options))
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        return Compiled(time.perf_counter() - start, refusal=_refusal(str(error)))
    seconds = time.perf_counter() - start
    text = _text(compiled)
    kernels = read_kernels(target, text)
    known = {name: cycles for name, cycles in kernels.items() if cycles is not None}
    program = read_program(text, known)
    planned: Any = compiled.memory_analysis()
    memory = Memory(
        planned.argument_size_in_bytes,
        planned.output_size_in_bytes,
        planned.alias_size_in_bytes,
        planned.temp_size_in_bytes,
        planned.generated_code_size_in_bytes,
    )
    return Compiled(seconds, memory, program, kernels)


def _text(compiled: jax.stages.Compiled) -> str:
    """The HLO module with all its constants, from which loops may take their lengths."""
    options = HloPrintOptions()
    options.print_large_constants = True
    executable: Any = compiled.runtime_executable()
    module, *_ = executable.hlo_modules()
    return module.to_string(options)


def _refusal(text: str) -> str:
    """The part of an error message that says how much memory was requested."""
    used = re.search(r"Used \S+ of \S+ \w+", text) or re.search(r"Allocation \(size.*?\)\s", text)
    return used[0].strip() if used else text.partition("\n")[0][:100]


def cells(compiled: Compiled, target: Target) -> dict[str, str]:
    """Figures of a program as a table shows them, by the names of its columns.

    Bytes are in 10^6, times in seconds; figures that the compiler does not give are a dash.
    """
    started = "launches" if target.platform == "gpu" else "operations"
    fits, seconds = f"fits in {target.memory_bytes / 2**30:.1f} GiB", "compile (s)"
    columns = {seconds: f"{compiled.compile_seconds:.1f}"}
    memory, program = compiled.memory, compiled.program
    if memory is None or program is None:
        names = (started, "estimated cycles", *MEMORY, fits, "collectives", "their bytes (MB)")
        columns = dict.fromkeys(names, "-") | {fits: "no"} | columns
    else:
        cycles = program.estimated_cycles
        exchanged = program.collectives.values()
        columns = {
            started: f"{program.launches:,}",
            "estimated cycles": "-" if cycles is None else f"{cycles:.3g}",
            **{title: f"{getattr(memory, name) / 1e6:,.1f}" for title, name in MEMORY.items()},
            fits: "yes" if memory.total <= target.memory_bytes else "no",
            "collectives": f"{sum(each.count for each in exchanged):,}",
            "their bytes (MB)": f"{sum(each.bytes for each in exchanged) / 1e6:,.1f}",
            **columns,
        }
    if target.platform == "gpu":  # its compiler estimates none
        del columns["estimated cycles"]
    return columns


def notes(named: Sequence[tuple[str, Compiled]], target: Target) -> str:
    """What is counted, estimated by the compiler and left out, in lines of 100 characters."""
    if target.platform == "gpu":
        paragraphs = [
            "Counted in the compiled program: launches are its kernels, library calls and copies,"
            " with loops multiplied out and the larger branch of each conditional. Nothing was run,"
            " and nothing could be tuned without the chip: there are no Triton matrix products,"
            " and libraries choose their routines at run time. Times are not estimated."
        ]
    else:
        paragraphs = [
            "Counted in the compiled program: the operations of the one program of a TPU, with"
            " loops multiplied out and the costlier branch of each conditional. Estimated: cycles"
            " are the compiler's own estimates, summed in the same way; for a kernel, its bundles"
            " of instructions are counted instead, one per cycle, without waits for memory."
            " Nothing was run."
        ]
    paragraphs.append(
        "Memory that the compiler plans for one device: arguments, the values between arguments and"
        " results, and the part of the results that reuses memory of arguments; the total is what"
        " must be there at once, with the results and the program's code. The bytes of collectives"
        " are those that one device contributes."
    )
    paragraphs += [text for name, compiled in named for text in _caveats(name, compiled)]
    return "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in paragraphs)


def _caveats(name: str, compiled: Compiled) -> list[str]:
    if compiled.program is None:
        return [f"{name}: the compiler refuses it as too large ({compiled.refusal})."]
    found, program = [], compiled.program
    if program.unknown_loops:
        found.append(
            f"{name}: the data decide how often {program.unknown_loops} loops run; the body of each"
            " is counted once."
        )
    if program.unestimated:
        kinds = ", ".join(
            f"{count:,} {kind}" for kind, count in Counter(program.unestimated).most_common(8)
        )
        found.append(f"{name}: not in the cycles, as there is no estimate: {kinds}.")
    known = [cycles for cycles in compiled.kernels.values() if cycles is not None]
    if known:
        found.append(
            f"{name}: {len(known)} kernels have {sum(known):,} bundles in total, if each runs once."
        )
    unknown = [kernel for kernel, cycles in compiled.kernels.items() if cycles is None]
    if unknown:
        found.append(
            f"{name}: kernels not in the cycles, as their loops depend on data:"
            f" {', '.join(unknown)}."
        )
    return found


def results(compiled: Compiled) -> dict[str, Any]:
    """Plain dictionary of a program's figures, in bytes and seconds."""
    found = dataclasses.asdict(compiled)
    if compiled.memory is not None:
        found["memory"]["total"] = compiled.memory.total
    return found


def target_results(target: Target) -> dict[str, Any]:
    """Plain dictionary of a target, with the versions of the compilers used for it."""
    return {
        "name": target.name,
        "device_kind": target.device_kind,
        "devices": len(target.devices),
        "memory_bytes": target.memory_bytes,
        "versions": {
            found.metadata["Name"]: found.version
            for found in importlib.metadata.distributions()
            if found.metadata["Name"] in COMPILERS
        },
    }
