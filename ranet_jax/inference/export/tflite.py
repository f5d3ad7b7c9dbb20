"""TFLite: a file for LiteRT on phones and small machines, by LiteRT's converter of StableHLO."""

import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from ranet_jax.errors import UserError
from ranet_jax.inference.export.format import Format
from ranet_jax.inference.export.program import Program
from ranet_jax.inference.export.quantization import quantize_tflite
from ranet_jax.inference.export.rewriting import default_branch, evaluate, missing, rewritten
from ranet_jax.inference.runtimes import OUTPUTS, SIGNATURE, open_tflite


def _write(program: Program, description: dict[str, Any], path: pathlib.Path) -> str:
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext as converter

    function = rewritten(program, RULES, fold=True)
    exported = jax.export.export(jax.jit(function), platforms=["cpu"])(
        program.images(any_batch=False)
    )
    context = ir.Context()
    converter.prepare_mlir_context(context)
    config = converter.ConvertToTFLConfig()
    config.model_origin_framework = "JAX"
    config.canonicalizing_inf_as_min_max_float = False
    with context:
        module = ir.Module.parse(exported.mlir_module())
        converter.set_signature(
            module.operation,
            signature_name=SIGNATURE,
            input_names=["images"],
            output_names=list(OUTPUTS),
        )
        try:
            converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), config)
            path.write_bytes(converter.export_flatbuffer_to_bytes(module.operation))
        except ValueError as error:
            what = _refused(str(error), module)
            raise UserError(
                f"Format tflite lacks {what} of the network; choose another format."
            ) from error
    return ""


def _refused(text: str, module: Any) -> str:
    """The operation that the converter's error names, or those that were not converted."""
    named = re.search(r"failed to legalize operation '([\w.]+)'", text)
    left = re.findall(r"((?:stablehlo|vhlo|chlo)\.\w+)", str(module))
    if named:
        return f"the operation {named[1]}"
    if left:
        return f"the operations {', '.join(sorted(set(left)))}"
    return "an operation that its converter does not name"


def _sort(*operands: Any, dimension: int, num_keys: int, **_: Any) -> Sequence[jax.Array]:
    """A sort along the last axis, by `top_k` of the negated key with k as large as the axis.

    With several keys, the last one is sorted first: each sort leaves equal entries in their order.
    """
    if dimension != operands[0].ndim - 1:
        raise UserError(
            "Format tflite does not support a sort along an axis other than the last, which the"
            " network has; choose another format."
        )
    for key in reversed(range(num_keys)):
        order = jax.lax.top_k(-operands[key], operands[key].shape[-1])[1]
        operands = tuple(jnp.take_along_axis(each, order, axis=-1) for each in operands)
    return operands


def _gather(
    operand: Any,
    indices: Any,
    *,
    dimension_numbers: jax.lax.GatherDimensionNumbers,
    slice_sizes: tuple[int, ...],
    mode: Any,
    fill_value: Any,
    **_: Any,
) -> Sequence[jax.Array]:
    """`jax.lax.gather` with places that are kept in range, because LiteRT fails at others."""
    axes = dimension_numbers.start_index_map
    largest = np.array([operand.shape[axis] - slice_sizes[axis] for axis in axes], indices.dtype)
    largest = largest.reshape((1,) * (indices.ndim - 1) + (-1,))
    kept = jnp.clip(indices, np.zeros_like(largest), largest)
    taken = jax.lax.gather(operand, kept, dimension_numbers, slice_sizes, mode="clip")
    if mode != jax.lax.GatherScatterMode.FILL_OR_DROP:
        return [taken]
    inside = jnp.expand_dims(jnp.all(kept == indices, axis=-1), dimension_numbers.offset_dims)
    filling = jnp.array(missing(taken.dtype, fill_value), taken.dtype)
    return [jnp.where(inside, taken, filling)]


def _scatter(reduction: str) -> Any:
    """`jax.lax.scatter` and its variants, by comparing every row with the row of every update.

    Rows are those of the operand [rows, rest...] with its indexed axes joined.
    """

    def rule(operand: Any, indices: Any, updates: Any, **parameters: Any) -> Sequence[jax.Array]:
        numbers = parameters["dimension_numbers"]
        axes = numbers.scatter_dims_to_operand_dims
        indexed, windows = (*numbers.operand_batching_dims, *axes), numbers.update_window_dims
        rest = [axis for axis in range(operand.ndim) if axis not in indexed]
        whole = [updates.shape[place] for place in windows] == [operand.shape[a] for a in rest]
        clips = parameters["mode"] == jax.lax.GatherScatterMode.CLIP
        if tuple(axes) != tuple(numbers.inserted_window_dims) or not whole or clips:
            raise UserError(
                "Format tflite does not support a scatter of windows, which the network has; choose"
                " another format."
            )
        sizes = [operand.shape[axis] for axis in indexed]
        row = jnp.zeros(indices.shape[:-1], jnp.int32)
        inside = jnp.ones(indices.shape[:-1], bool)
        for number, size in enumerate(sizes):
            along = number - len(numbers.operand_batching_dims)
            if along < 0:
                batch_axis = numbers.scatter_indices_batching_dims[number]
                place = jax.lax.broadcasted_iota(jnp.int32, row.shape, batch_axis)
            else:
                place = indices[..., along]
            row = row * size + place
            inside &= (place >= 0) & (place < size)
        row = jnp.where(inside, row, -1).reshape(-1)
        num_rows, order = math.prod(sizes), [*indexed, *rest]
        batch = [axis for axis in range(updates.ndim) if axis not in windows]
        data = operand.transpose(order).reshape(num_rows, -1)
        new = updates.transpose([*batch, *windows]).reshape(row.shape[0], -1)
        here = jnp.arange(num_rows, dtype=jnp.int32)[:, None] == row[None, :]
        if data.dtype == bool:
            result = _joined(reduction, data.astype(jnp.int32), new.astype(jnp.int32), here) > 0
        else:
            result = _joined(reduction, data, new, here)
        ordered = result.reshape([operand.shape[axis] for axis in order])
        return [ordered.transpose(np.argsort(order).tolist())]

    return rule


def _joined(reduction: str, data: jax.Array, new: jax.Array, here: jax.Array) -> jax.Array:
    """Rows [rows, m] with the updates [updates, m] that `here` [rows, updates] assigns to them."""
    if reduction == "max":
        is_float = jnp.issubdtype(data.dtype, jnp.floating)
        lowest = jnp.array(-jnp.inf if is_float else jnp.iinfo(data.dtype).min, data.dtype)
        of_rows = jnp.where(here[:, :, None], new[None], lowest)
        return jnp.maximum(data, jnp.max(of_rows, axis=1))
    if jnp.issubdtype(data.dtype, jnp.floating):
        total = here.astype(data.dtype) @ new
    else:
        total = jnp.sum(jnp.where(here[:, :, None], new[None], 0), axis=1, dtype=data.dtype)
    if reduction == "add":
        return data + total
    return jnp.where(jnp.any(here, axis=1)[:, None], total, data)


def _scan(
    *values: Any, jaxpr: Any, length: int, num_consts: int, num_carry: int, **parameters: Any
) -> Sequence[Any]:
    """A scan as its turns, one after another."""
    constants, rest = values[:num_consts], values[num_consts:]
    carried, listed = list(rest[:num_carry]), rest[num_carry:]
    collected = []
    turns = range(length)
    for turn in reversed(turns) if parameters["reverse"] else turns:
        results = evaluate(
            jaxpr, [*constants, *carried, *(each[turn] for each in listed)], RULES, fold=True
        )
        carried = results[:num_carry]
        collected.append(results[num_carry:])
    ordered = collected[::-1] if parameters["reverse"] else collected
    return [*carried, *(jnp.stack(parts) for parts in zip(*ordered, strict=True))]


def _while(
    *values: Any,
    cond_jaxpr: Any,
    cond_nconsts: int,
    body_jaxpr: Any,
    body_nconsts: int,
    **_: Any,
) -> Sequence[Any]:
    """A loop as its turns, one after another; their number must be known beforehand."""
    of_test, rest = values[:cond_nconsts], values[cond_nconsts:]
    of_body, carried = rest[:body_nconsts], list(rest[body_nconsts:])
    while True:
        (goes_on,) = evaluate(cond_jaxpr, [*of_test, *carried], RULES, fold=True)
        if isinstance(goes_on, jax.core.Tracer):
            raise UserError(
                "Format tflite does not support a loop of the network whose number of turns"
                " depends on the data; choose another format."
            )
        if not goes_on:
            return carried
        carried = evaluate(body_jaxpr, [*of_body, *carried], RULES, fold=True)


def _cond(which: Any, *operands: Any, **parameters: Any) -> Sequence[Any]:
    """A conditional as it is, and a choice between platforms as its default.

    The default has the operations that LiteRT has too, such as depthwise convolution.
    """
    default = default_branch(parameters)
    if default is not None:
        return evaluate(default, operands, RULES, fold=True)
    return jax.lax.cond_p.bind(which, *operands, **parameters)


RULES = {
    "cond": _cond,
    "gather": _gather,
    "scan": _scan,
    "while": _while,
    "sort": _sort,
    "scatter": _scatter("set"),
    "scatter-add": _scatter("add"),
    "scatter-max": _scatter("max"),
}

USAGE = """\
from ai_edge_litert.interpreter import Interpreter

segment = Interpreter("{file}").get_signature_runner()
outputs = segment(images=images)  # "labels" and "probabilities"
"""

FORMAT = Format(
    "tflite",
    "LiteRT",
    _write,
    open_tflite,
    USAGE,
    suffix=".tflite",
    packages=("litert_converter", "ai_edge_litert"),
    extra="tflite",
    any_batch=False,
    region_path="dense",
    quantize=quantize_tflite,
    quantize_packages=("ai_edge_quantizer",),
)
