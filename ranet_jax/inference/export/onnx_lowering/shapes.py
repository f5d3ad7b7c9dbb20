"""Operations that move elements to places known beforehand, as nodes of ONNX."""

import numpy as np
from jax.extend.core import JaxprEqn

from ranet_jax.inference.export.onnx_lowering.elementwise import Lowering
from ranet_jax.inference.export.onnx_lowering.graph import Graph, NotInONNX, Value, shape_of


def _broadcast_in_dim(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    """A reshape: the operation that takes the result broadcasts it, or expands it if it must."""
    value, out = values[0], shape_of(equation)
    stored = [1] * len(out.shape)
    for axis, place in enumerate(equation.params["broadcast_dimensions"]):
        stored[place] = value.stored[axis]
    shape = tuple(stored)
    if value.array is not None:
        return [Value(out.shape, value.dtype, shape, array=value.array.reshape(shape))]
    name = value.name if shape == value.stored else graph.reshape(value.name, shape)
    return [Value(tuple(out.shape), value.dtype, shape, name)]


def _iota(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    out, axis = shape_of(equation), equation.params["dimension"]
    stored = tuple(out.shape[axis] if place == axis else 1 for place in range(len(out.shape)))
    numbers = np.arange(out.shape[axis]).astype(out.dtype).reshape(stored)
    return [Value(tuple(out.shape), np.dtype(out.dtype), stored, array=numbers)]


def _reshape(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    value, out = values[0], shape_of(equation)
    return [graph.value(graph.reshape(graph.full(value), out.shape), out)]


def _squeeze(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    value, out = values[0], shape_of(equation)
    gone = {axis % len(value.shape) for axis in equation.params["dimensions"]}
    stored = tuple(size for axis, size in enumerate(value.stored) if axis not in gone)
    name = graph.reshape(graph.stored(value), stored)
    return [Value(tuple(out.shape), value.dtype, stored, name)]


def _transpose(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    value, order = values[0], equation.params["permutation"]
    shape, stored = (tuple(sizes[axis] for axis in order) for sizes in (value.shape, value.stored))
    return [Value(shape, value.dtype, stored, graph.transpose(graph.stored(value), order))]


def _concatenate(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    names = map(graph.full, values)
    return [
        graph.result("Concat", list(names), shape_of(equation), axis=equation.params["dimension"])
    ]


def _slice(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    parameters = equation.params
    steps = parameters["strides"] or (1,) * len(values[0].shape)
    name = sliced(
        graph,
        graph.full(values[0]),
        parameters["start_indices"],
        parameters["limit_indices"],
        steps,
    )
    return [graph.value(name, shape_of(equation))]


def sliced(graph: Graph, name: str, starts, limits, steps) -> str:
    """A slice of every axis."""
    axes = range(len(starts))
    return graph.node(
        "Slice", name, *(graph.integers(list(numbers)) for numbers in (starts, limits, axes, steps))
    )


def _rev(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    axes = equation.params["dimensions"]
    lists = ([-1] * len(axes), [np.iinfo(np.int64).min] * len(axes), axes, [-1] * len(axes))
    name = graph.node(
        "Slice", graph.full(values[0]), *(graph.integers(numbers) for numbers in lists)
    )
    return [graph.value(name, shape_of(equation))]


def _split(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    sizes = equation.params["sizes"]
    names = graph.nodes_of(
        "Split",
        (graph.full(values[0]), graph.integers(sizes)),
        len(sizes),
        axis=equation.params["axis"],
    )
    return [graph.value(name, out.aval) for name, out in zip(names, equation.outvars, strict=True)]


def _pad(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    value, filling = values
    padding = equation.params["padding_config"]
    if any(interior for _, _, interior in padding):
        raise NotInONNX("padding between elements")
    name, shape = graph.full(value), value.shape
    if any(low < 0 or high < 0 for low, high, _ in padding):
        starts = [max(-low, 0) for low, _, _ in padding]
        limits = [size - max(-high, 0) for size, (_, high, _) in zip(shape, padding, strict=True)]
        name = sliced(graph, name, starts, limits, [1] * len(shape))
    pads = [max(low, 0) for low, _, _ in padding] + [max(high, 0) for _, high, _ in padding]
    if any(pads):
        name = graph.node("Pad", name, graph.integers(pads), graph.stored(filling))
    return [graph.value(name, shape_of(equation))]


# For constants, the results of these operations are stored small, whatever their shape.
LAZY = ("broadcast_in_dim", "iota")

LOWERINGS: dict[str, Lowering] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "iota": _iota,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "rev": _rev,
    "split": _split,
    "pad": _pad,
}
