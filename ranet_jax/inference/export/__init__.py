"""Trained models for other runtimes.

A new format is a file that declares itself, and a name in `FORMATS`.
"""

import importlib.util
import operator
import os
import pathlib
from dataclasses import dataclass
from typing import Any, Literal

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.files import explained, paths, replacing, write_json
from ranet_jax.files.paths import as_path
from ranet_jax.inference.export import onnx, savedmodel, stablehlo, tflite
from ranet_jax.inference.export.comparison import Comparison, compare
from ranet_jax.inference.export.format import Format
from ranet_jax.inference.export.program import (
    Program,
    describe,
    whole_image_model,
    with_region_path,
)
from ranet_jax.inference.model import Model

__all__ = ["FORMATS", "Comparison", "Exported", "Format", "export", "find_format"]

FORMATS: list[Format] = [
    stablehlo.FORMAT,
    onnx.FORMAT,
    savedmodel.FORMAT,
    tflite.FORMAT,
]


@dataclass(frozen=True)
class Exported:
    """What `export` wrote, and how far its runtime is from `Model.predict`."""

    format: Format
    comparison: Comparison
    remark: str


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
      UserError: there is none, or a package that it needs is not installed.
    """
    for each in FORMATS:
        if each.name == name:
            break
    else:
        names = ", ".join(each.name for each in FORMATS)
        raise UserError(f"Format {name!r} is not known; choose one of {names}.")
    for package in each.packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"Format {name} needs the package {package}; install it with"
                f" `pip install 'ranet_jax[{each.extra}]'`."
            )
    return each


def export(
    model: Model,
    output: str | os.PathLike[str],
    format: str,
    size: tuple[int, int] | Literal["dynamic"],
) -> Exported:
    """Write a model as a program for another runtime, whole or not at all.

    The program takes uint8 RGB images [b, H, W, 3], and gives the labels [b, H, W] and
    probabilities [b, H, W, c] that `Model.predict` gives in one pass over the whole image. Before
    the file has its name it is loaded in its own runtime and compared with `Model.predict`.

    Args:
      model: as `load` gives it.
      output: new file, or new directory of a SavedModel.
      format: name of one of `FORMATS`.
      size: (H, W) of the images in pixels, or "dynamic" for images of any size.

    Raises:
      UserError: the format, the size or the output will not do, a package is missing, the format
        lacks an operation of the network, or its runtime computes something else.
    """
    chosen = find_format(format)
    fixed = _fixed_size(size, chosen)
    target = as_path(output)
    beside = target.with_name(f"{target.name}.json")
    _check_output(target, chosen)
    if not chosen.holds_description:
        _refuse_existing(beside)
    whole = whole_image_model(model)
    suited = whole if chosen.region_path is None else with_region_path(whole, chosen.region_path)
    program = Program(suited, fixed)
    program.check_sizes()
    description = describe(program, chosen.any_batch)
    with explained(target, "make room or choose another output"), replacing(target) as partial:
        remark = chosen.write(program, description, partial)
        comparison = _compare(whole, chosen, partial, fixed)
        if not comparison.passes:
            raise UserError(
                f"{chosen.runtime} computes something else of the {format} file than"
                f" `Model.predict` (probabilities differ by up to {comparison.probabilities:.2g},"
                f" and {comparison.labels:.2%} of the labels); nothing is written."
            )
        if not chosen.holds_description:
            write_json(beside, description)
    return Exported(chosen, comparison, remark)


def _fixed_size(size: Any, chosen: Format) -> tuple[int, int] | None:
    """The one size of the images; None for any."""
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
    if min(height, width) < 1:
        raise UserError(f"The images are {height} x {width}; choose a size of 1 x 1 or more.")
    return height, width


def _compare(
    model: Model, chosen: Format, partial: pathlib.Path, size: tuple[int, int] | None
) -> Comparison:
    """What the runtime makes of a file, beside `Model.predict`.

    Raises:
      UserError: it does not load or run the file, with whatever error it has for that.
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
    """Refuse, before work is done for it, a path to which the format is not written."""
    if target.suffix != chosen.suffix and chosen.suffix:
        raise UserError(f"{target} does not end in {chosen.suffix}; give both one format.")
    paths.check_bucket(target)
    _refuse_existing(target)
    if not paths.is_store(target) and not target.absolute().parent.is_dir():
        raise UserError(f"Directory {target.parent} is missing; make it first.")


def _refuse_existing(target: paths.Path) -> None:
    if paths.exists(target):
        raise UserError(f"{target} exists already; choose another output.")
