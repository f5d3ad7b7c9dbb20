"""Trained models for other runtimes.

To add a format, write a module that declares a `Format`, and add it to `FORMATS`.
"""

import importlib.util
import operator
import os
import pathlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ranet_jax.errors import UserError, check_counts, first_sentence
from ranet_jax.files import check_suffix, explained, paths, replacing, write_json
from ranet_jax.files.paths import as_path
from ranet_jax.inference.export import onnx, savedmodel, stablehlo, tflite
from ranet_jax.inference.export.comparison import Comparison, compare
from ranet_jax.inference.export.format import Format
from ranet_jax.inference.export.program import (
    SMALLEST,
    Program,
    describe,
    whole_image_model,
    with_region_path,
)
from ranet_jax.inference.export.quantization import BOUNDS, EXACT, Bound, with_half_kernels
from ranet_jax.inference.model import Model
from ranet_jax.porting.directories import write_weights
from ranet_jax.porting.networks import find_network

__all__ = [
    *("FORMATS", "WEIGHTS", "Comparison", "Exported", "Format"),
    *("export", "find_format", "refuse_existing"),
]

FORMATS: list[Format] = [
    stablehlo.FORMAT,
    onnx.FORMAT,
    savedmodel.FORMAT,
    tflite.FORMAT,
]
# Formats of the weights alone, in PyTorch's layout; also the suffixes of their files.
WEIGHTS = ("pth", "safetensors")


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
      comparison: how far the file's results are from `Model.predict`; None for weights alone.
      report: what the user should know about the file, in sentences.
      usage: Python code that runs `{file}`; empty for weights alone.
      sizes: which sizes of images the file takes, in words; empty for weights alone.
    """

    comparison: Comparison | None
    report: str
    usage: str = ""
    sizes: str = ""


def find_format(name: str) -> Format:
    """The format with the given name.

    Raises:
      UserError: there is no such format, or a package that it needs is not installed.
    """
    for each in FORMATS:
        if each.name == name:
            break
    else:
        names = ", ".join((*(each.name for each in FORMATS), *WEIGHTS))
        raise UserError(f"Format {name!r} is not known; choose one of {names}.")
    _check_packages(each, each.packages)
    return each


def _check_packages(chosen: Format, packages: Sequence[str]) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"Format {chosen.name} needs the package {package}; install it with"
                f" `pip install 'ranet_jax[{chosen.extra}]'`."
            )


def export(
    model: Model,
    output: str | os.PathLike[str],
    format: str,
    size: tuple[int, int] | Literal["dynamic"] | None = None,
    quantize: str | None = None,
) -> Exported:
    """Write a model as a program for another runtime, or its weights alone; whole or not at all.

    The program takes uint8 RGB images [b, H, W, 3], and gives the labels [b, H, W] and
    probabilities [b, H, W, c] that `Model.predict` gives in one pass over the whole image. Before
    the file gets its final name, it is loaded in its own runtime and compared with `Model.predict`;
    a file of weights is read back.

    Args:
      model: a model as `load` returns it.
      output: new file, or new directory of a SavedModel.
      format: name of one of `FORMATS`, or one of `WEIGHTS`.
      size: (H, W) of the images in pixels, or "dynamic" for images of any size; None for weights.
      quantize: "int8" or "float16" for smaller kernels, whichever the format supports.

    Raises:
      UserError: the format, the size or the output is unsuitable, a package is missing, the format
        lacks an operation of the network, or its runtime computes something else.
    """
    target = as_path(output)
    if format in WEIGHTS:
        return _export_weights(model, target, format, size, quantize)
    chosen = find_format(format)
    fixed = _fixed_size(size, chosen)
    bound = _bound(quantize, chosen)
    beside = target.with_name(f"{target.name}.json")
    _check_output(target, chosen)
    if not chosen.holds_description:
        refuse_existing(beside)
    whole = whole_image_model(model)
    suited = whole if chosen.region_path is None else with_region_path(whole, chosen.region_path)
    program = Program(suited, fixed)
    program.check_sizes()
    description = describe(program, chosen.any_batch, quantize)
    with explained(target, "make room or choose another output"), replacing(target) as partial:
        remark = chosen.write(program, description, partial)
        sizes = [_num_bytes(partial)]
        if quantize is not None:
            _quantize(chosen, program, description, partial)
            sizes.append(_num_bytes(partial))
        comparison = _compare(whole, chosen, partial, fixed)
        if not comparison.passes(bound):
            raise UserError(
                f"{chosen.runtime} gives other results for the {format} file than"
                f" `Model.predict` (probabilities differ by up to {comparison.probabilities:.2g},"
                f" and {comparison.labels:.2%} of the labels differ); nothing is written."
            )
        if not chosen.holds_description:
            write_json(beside, description)
    report = (
        f"In {chosen.runtime} its probabilities differ by at most {comparison.probabilities:.1e}"
        f" from those of `ranet predict`, and {comparison.labels:.2%} of the labels differ."
    )
    if quantize is not None:
        before, after = (f"{size / 1e6:.2f} MB" for size in sizes)
        report += f" It takes {after} quantised, and {before} otherwise."
    sizes_taken = f"at least {SMALLEST} pixels a side"
    if fixed is not None:
        sizes_taken = f"{fixed[0]} x {fixed[1]} pixels"
    return Exported(comparison, f"{report} {remark}".rstrip(), chosen.usage, sizes_taken)


def _export_weights(
    model: Model, target: paths.Path, format: str, size: Any, quantize: str | None
) -> Exported:
    if size is not None or quantize is not None:
        raise UserError(
            f"Format {format} holds only the weights, unchanged; leave"
            f" {'the size' if size is not None else 'the quantisation'} out."
        )
    check_suffix(target, f".{format}")
    naming = write_weights(target, find_network(model.config), model.variables)
    return Exported(None, f"The weights have the names of {naming}; read back, they are the same.")


def _bound(quantize: str | None, chosen: Format) -> Bound:
    """How far the results of an export may be from those of the model.

    Raises:
      UserError: the format has no such quantisation, or a package for it is missing.
    """
    if quantize is None:
        return EXACT
    if quantize != chosen.quantization:
        raise UserError(
            f"Format {chosen.name} cannot be quantised to {quantize!r}; choose"
            f" {chosen.quantization!r} or leave the quantisation out."
        )
    _check_packages(chosen, chosen.quantize_packages)
    return BOUNDS[quantize]


def _quantize(
    chosen: Format, program: Program, description: dict[str, Any], partial: pathlib.Path
) -> None:
    if chosen.quantize is not None:
        chosen.quantize(partial)
        return
    if partial.is_dir():
        shutil.rmtree(partial)
    chosen.write(with_half_kernels(program), description, partial)


def _num_bytes(path: pathlib.Path) -> int:
    """The size of a file, or of all files of a directory, in bytes."""
    files = [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file())
    return sum(each.stat().st_size for each in files)


def _fixed_size(size: Any, chosen: Format) -> tuple[int, int] | None:
    """The only size that images may have; None if they may have any."""
    if size == "dynamic":
        if not chosen.any_size:
            others = " or ".join(each.name for each in FORMATS if each.any_size)
            raise UserError(
                f"Format {chosen.name} takes images of one size; give a height and a width, or"
                f" choose {others}."
            )
        return None
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        raise UserError(
            f"The size of the images is {size!r}; give a height and a width, or 'dynamic'."
        ) from None
    check_counts({"height of the images": height, "width of the images": width})
    return height, width


def _compare(
    model: Model, chosen: Format, partial: pathlib.Path, size: tuple[int, int] | None
) -> Comparison:
    """Compare what the runtime computes from a file with `Model.predict`.

    Raises:
      UserError: the runtime cannot load or run the file, whatever error it raises for that.
    """
    try:
        return compare(model, chosen.open(partial), size, chosen.any_batch)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{chosen.runtime} does not run the {chosen.name} file ({first_sentence(error)});"
            " nothing is written."
        ) from error


def _check_output(target: paths.Path, chosen: Format) -> None:
    """Refuse a path that the format cannot be written to, before any work is done."""
    if chosen.suffix:
        check_suffix(target, chosen.suffix)
    paths.check_bucket(target)
    refuse_existing(target)
    if not paths.is_store(target) and not target.absolute().parent.is_dir():
        raise UserError(f"Directory {target.parent} is missing; make it first.")


def refuse_existing(target: paths.Path) -> None:
    """Raise `UserError` if something already exists at a path."""
    if paths.exists(target):
        raise UserError(f"{target} exists already; choose another output.")
