"""StableHLO: what `jax.export` serialises, for JAX on any machine."""

import pathlib
from typing import Any

import jax
import jax.export

from ranet_jax.inference.export.format import Format
from ranet_jax.inference.export.program import Program
from ranet_jax.inference.runtimes import open_stablehlo

# A program that does not lower for all of them is for the others.
PLATFORMS = ("cpu", "cuda", "tpu")


def lowered_platforms(function: Any, images: jax.ShapeDtypeStruct) -> tuple[str, ...]:
    """The platforms of `PLATFORMS` for which a function can be lowered together."""
    try:
        jax.export.export(jax.jit(function), platforms=PLATFORMS)(images)
    except (NotImplementedError, ValueError):  # a kernel of one platform, refused by the others
        return PLATFORMS[:-1]
    return PLATFORMS


def remark(platforms: tuple[str, ...]) -> str:
    """For which machines a program is, in one sentence."""
    if platforms == PLATFORMS:
        return "It runs on CPUs, NVIDIA GPUs and TPUs."
    return (
        "It runs on CPUs and NVIDIA GPUs; config.model.region_path 'planes' gives a program for"
        " TPUs too."
    )


def _write(program: Program, description: dict[str, Any], path: pathlib.Path) -> str:
    images = program.images(any_batch=True)
    platforms = lowered_platforms(program, images)
    exported = jax.export.export(jax.jit(program), platforms=platforms)(images)
    path.write_bytes(exported.serialize())
    return remark(platforms)


USAGE = """\
import jax
import jax.export

exported = jax.export.deserialize(bytearray(open("{file}", "rb").read()))
labels, probabilities = jax.jit(exported.call)(images)
"""

FORMAT = Format(
    "stablehlo", "jax.export", _write, open_stablehlo, USAGE, suffix=".stablehlo", any_size=True
)
