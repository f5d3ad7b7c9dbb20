"""StableHLO: what `jax.export` serialises, for JAX on any machine."""

import pathlib
from typing import Any

import jax
import jax.export

from ranet_jax.inference.export.format import Format
from ranet_jax.inference.export.program import Program
from ranet_jax.inference.runtimes import open_stablehlo

# The kinds of machines that one file serves.
PLATFORMS = ("cpu", "cuda", "tpu")
REMARK = "It runs on CPUs, NVIDIA GPUs and TPUs."


def _write(program: Program, description: dict[str, Any], path: pathlib.Path) -> str:
    images = program.images(any_batch=True)
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(images)
    path.write_bytes(exported.serialize())
    return REMARK


USAGE = """\
import jax
import jax.export

exported = jax.export.deserialize(bytearray(open("{file}", "rb").read()))
labels, probabilities = jax.jit(exported.call)(images)
"""

FORMAT = Format(
    "stablehlo", "jax.export", _write, open_stablehlo, USAGE, suffix=".stablehlo", any_size=True
)
