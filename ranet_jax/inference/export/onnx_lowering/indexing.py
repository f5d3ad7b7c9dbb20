"""Operations that read or write at computed places, as nodes of ONNX.

Each place becomes one number: its row in the operand after the indexed axes are moved to the front
and joined into one. The numbers are kept in range here, so that a runtime's own rule for numbers
out of range never applies.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from ranet_jax.inference.export.onnx_lowering.elementwise import Lowering
from ranet_jax.inference.export.onnx_lowering.graph import Graph, NotInONNX, Value, count, shape_of
from ranet_jax.inference.export.onnx_lowering.shapes import sliced
from ranet_jax.inference.export.rewriting import missing

_Mode = jax.lax.GatherScatterMode


class Places(NamedTuple):
    """Where the windows of an operand are.

    Attributes:
      shape: shape of the operand.
      indexed: axes of the operand that places refer to: those of a batch, then the others.
      windows: the indexed axes that a window has.
      sizes: size of the window on every axis of the operand.
      rest: the axes that are not indexed, which every window has whole.
      rows: name of the rows, [batch..., windows...].
      inside: name of the mask that says which windows are inside the operand, [batch...] and an
        axis of size 1 for each of `windows`; "" if all surely are.
    """

    shape: tuple[int, ...]
    indexed: tuple[int, ...]
    windows: tuple[int, ...]
    sizes: tuple[int, ...]
    rest: tuple[int, ...]
    rows: str
    inside: str

    @property
    def order(self) -> tuple[int, ...]:
        """All axes of the operand, the indexed ones first."""
        return self.indexed + self.rest

    @property
    def num_rows(self) -> int:
        """The number of rows of the operand when its indexed axes are joined."""
        return count([self.shape[axis] for axis in self.indexed])

    def as_rows(self, graph: Graph, name: str) -> str:
        """The operand with its indexed axes joined: [rows, rest...]."""
        name = graph.transpose(name, self.order)
        return graph.reshape(name, [self.num_rows, *(self.shape[axis] for axis in self.rest)])

    def from_rows(self, graph: Graph, name: str) -> str:
        """The operand in its original form, from what `as_rows` returned."""
        name = graph.reshape(name, [self.shape[axis] for axis in self.order])
        return graph.transpose(name, np.argsort(self.order).tolist())


def _find_places(
    graph: Graph,
    shape: tuple[int, ...],
    indices: Value,
    batching: Sequence[tuple[int, int]],
    axes: Sequence[int],
    sizes: Sequence[int],
    without: Sequence[int],
    mode: Any,
) -> Places:
    """The places that the last axis of indices [batch..., len(axes)] names.

    `batching` pairs each batch axis of the operand with the corresponding axis of the indices, and
    `without` are the axes that windows do not have.
    """
    batch = indices.shape[:-1]
    indexed = (*(axis for axis, _ in batching), *axes)
    windows = tuple(axis for axis in axes if axis not in without)
    stride = {axis: count([shape[a] for a in indexed[n + 1 :]]) for n, axis in enumerate(indexed)}
    one_each = (1,) * len(windows)
    names, dtype = graph.names, np.dtype(np.int32 if indices.dtype == np.int32 else np.int64)
    offsets = np.zeros((1,) * (len(batch) + len(windows)), dtype)
    for axis, along in batching:
        offsets = offsets + stride[axis] * _along(shape[axis], along, offsets)
    for number, axis in enumerate(windows):
        offsets = offsets + stride[axis] * _along(sizes[axis], len(batch) + number, offsets)
    starts = graph.full(indices)
    if dtype != indices.dtype:
        starts = graph.cast(starts, dtype)
    largest = [shape[axis] - sizes[axis] for axis in axes]
    inside = ""
    if mode == _Mode.FILL_OR_DROP:
        above = graph.node("GreaterOrEqual", starts, graph.scalar(0, dtype))
        most = names.initializer(np.array(largest, dtype))
        both = graph.node("And", above, graph.node("LessOrEqual", starts, most))
        both = graph.node("ReduceMin", graph.cast(both, np.int32), graph.integers([-1]), keepdims=0)
        inside = graph.reshape(graph.cast(both, np.bool_), batch + one_each)
    # Clip also places that are promised to be inside: those of unused entries may lie outside.
    starts = _clipped(graph, starts, largest, dtype)
    if len(axes) > 1:
        strides = np.array([stride[axis] for axis in axes], dtype)
        starts = graph.node("Mul", starts, names.initializer(strides))
        starts = graph.node("ReduceSum", starts, graph.integers([-1]), keepdims=0)
    elif stride[axes[0]] > 1:
        starts = graph.node("Mul", starts, graph.scalar(stride[axes[0]], dtype))
    rows = graph.reshape(starts, batch + one_each)
    if offsets.any():
        rows = graph.node("Add", rows, names.initializer(offsets))
    rest = tuple(axis for axis in range(len(shape)) if axis not in indexed)
    return Places(shape, indexed, windows, tuple(sizes), rest, rows, inside)


def _integers(numbers: Sequence[Any]) -> tuple[int, ...]:
    """Axes as Python integers, because `jax.vmap` makes some of them NumPy integers."""
    return tuple(map(int, numbers))


def _clipped(graph: Graph, places: str, largest: list[int], dtype: Any) -> str:
    """Places [..., len(largest)], each limited to the range from 0 to its largest value."""
    if len(set(largest)) == 1:
        return graph.node("Clip", places, graph.scalar(0, dtype), graph.scalar(largest[0], dtype))
    most = graph.names.initializer(np.array(largest, dtype))
    return graph.node("Min", graph.node("Max", places, graph.scalar(0, dtype)), most)


def _along(size: int, axis: int, offsets: np.ndarray) -> np.ndarray:
    """The numbers from 0 to `size` - 1 along an axis, with the rank and dtype of `offsets`."""
    shape = [size if place == axis else 1 for place in range(offsets.ndim)]
    return np.arange(size, dtype=offsets.dtype).reshape(shape)


def _gather(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    operand, indices = values
    parameters, out = equation.params, shape_of(equation)
    numbers, sizes, mode = (parameters[k] for k in ("dimension_numbers", "slice_sizes", "mode"))
    pairs = (numbers.operand_batching_dims, numbers.start_indices_batching_dims)
    batching = list(zip(*map(_integers, pairs), strict=True))
    without = _integers((*numbers.collapsed_slice_dims, *numbers.operand_batching_dims))
    indexed = {*numbers.start_index_map, *numbers.operand_batching_dims}
    # Along an axis that is not indexed, a window has the first elements.
    shape = tuple(n if axis in indexed else sizes[axis] for axis, n in enumerate(operand.shape))
    name = graph.full(operand)
    if shape != operand.shape:
        name = sliced(graph, name, [0] * len(shape), shape, [1] * len(shape))
    axes = _integers(numbers.start_index_map)
    places = _find_places(graph, shape, indices, batching, axes, sizes, without, mode)
    name = graph.node("Gather", places.as_rows(graph, name), places.rows, axis=0)
    # From [batch..., windows..., rest...] to the order of axes in the result.
    own = [*places.windows, *places.rest]
    num_batch = len(indices.shape) - 1
    window = iter(np.argsort(own).tolist())
    first = iter(range(num_batch))
    order = [
        num_batch + next(window) if place in numbers.offset_dims else next(first)
        for place in range(len(out.shape))
    ]
    name = graph.transpose(name, order)
    if places.inside:
        sizes_of_batch = [1 if a in numbers.offset_dims else n for a, n in enumerate(out.shape)]
        inside = graph.reshape(places.inside, sizes_of_batch)
        name = _filled(graph, inside, name, out.dtype, parameters["fill_value"])
    return [graph.value(name, out)]


def _filled(graph: Graph, inside: str, name: str, dtype: Any, filling: Any) -> str:
    """The values where `inside` is true, and the fill value elsewhere."""
    filling = missing(dtype, filling)
    if np.dtype(dtype) == np.bool_:  # ONNX Runtime does not choose between booleans
        if filling:
            return graph.node("Or", graph.node("Not", inside), name)
        return graph.node("And", inside, name)
    return graph.node("Where", inside, name, graph.scalar(filling, dtype))


def _scatter(reduction: str) -> Lowering:
    def lower(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        operand, indices, updates = values
        numbers, mode = (equation.params[k] for k in ("dimension_numbers", "mode"))
        pairs = (numbers.operand_batching_dims, numbers.scatter_indices_batching_dims)
        without = _integers((*numbers.inserted_window_dims, *numbers.operand_batching_dims))
        present = [axis for axis in range(len(operand.shape)) if axis not in without]
        sizes = [1] * len(operand.shape)
        for axis, place in zip(present, numbers.update_window_dims, strict=True):
            sizes[axis] = updates.shape[place]
        axes = _integers(numbers.scatter_dims_to_operand_dims)
        places = _find_places(
            *(graph, operand.shape, indices, list(zip(*map(_integers, pairs), strict=True)), axes),
            *(sizes, without, mode),
        )
        if any(sizes[axis] != operand.shape[axis] for axis in places.rest):
            raise NotInONNX("scatter of a part of an axis")
        place_of = dict(zip(present, numbers.update_window_dims, strict=True))
        batch = [a for a in range(len(updates.shape)) if a not in numbers.update_window_dims]
        order = [*batch, *(place_of[axis] for axis in (*places.windows, *places.rest))]
        data, new = graph.full(operand), graph.transpose(graph.full(updates), order)
        if operand.dtype == np.bool_:  # ONNX Runtime takes no maximum of booleans
            data, new = graph.cast(data, np.int32), graph.cast(new, np.int32)
        name = write_rows(graph, places, data, new, reduction)
        if operand.dtype == np.bool_:
            name = graph.cast(name, np.bool_)
        return [graph.value(name, shape_of(equation))]

    return lower


def write_rows(graph: Graph, places: Places, operand: str, updates: str, reduction: str) -> str:
    """Put updates [batch..., windows..., rest...] into an operand; those outside are dropped."""
    rows, data = graph.cast(places.rows, np.int64), places.as_rows(graph, operand)
    if places.inside:  # updates outside go to an extra row, which is removed again
        outside = graph.scalar(places.num_rows, np.int64)
        rows = graph.node("Where", places.inside, rows, outside)
        ends = [0] * (1 + len(places.rest))
        data = graph.node("Pad", data, graph.integers([*ends, 1, *ends[1:]]))
    data = graph.node(
        "ScatterND",
        data,
        graph.node("Unsqueeze", rows, graph.integers([-1])),
        updates,
        reduction=reduction,
    )
    if places.inside:
        data = graph.node("Slice", data, *(graph.integers([n]) for n in (0, places.num_rows, 0)))
    return places.from_rows(graph, data)


def _dynamic_slice(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    operand, *starts = values
    sizes = equation.params["slice_sizes"]
    axes = [axis for axis, size in enumerate(sizes) if size < operand.shape[axis]]
    name = graph.full(operand)
    if axes:
        first = _starts(graph, starts, operand.shape, sizes, axes)
        last = graph.node("Add", first, graph.integers([sizes[axis] for axis in axes]))
        name = graph.node("Slice", name, first, last, graph.integers(axes))
    return [graph.value(name, shape_of(equation))]


def _starts(
    graph: Graph, starts: list[Value], shape: Sequence[int], sizes: Sequence[int], axes: list[int]
) -> str:
    """First places on some axes, limited so that the window is inside: int64 [len(axes)]."""
    parts = [graph.reshape(graph.cast(graph.full(starts[axis]), np.int64), [1]) for axis in axes]
    joined = graph.node("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
    return _clipped(graph, joined, [shape[axis] - sizes[axis] for axis in axes], np.int64)


def _dynamic_update_slice(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    operand, update, *starts = values
    shape, sizes, out = operand.shape, update.shape, shape_of(equation)
    axes = [axis for axis, size in enumerate(sizes) if size < shape[axis]]
    if len(axes) > 1:
        raise NotInONNX("an update of a part of several axes")
    name = graph.full(update)
    if axes:
        (axis,) = axes
        first = _starts(graph, starts, shape, sizes, axes)
        last = graph.node("Add", first, graph.integers([sizes[axis]]))
        whole = graph.full(operand)
        before = graph.node("Slice", whole, graph.integers([0]), first, graph.integers(axes))
        after = graph.node(
            "Slice", whole, last, graph.integers([shape[axis]]), graph.integers(axes)
        )
        name = graph.node("Concat", before, name, after, axis=axis)
    return [graph.value(name, out)]


LOWERINGS: dict[str, Lowering] = {
    "gather": _gather,
    "scatter": _scatter("none"),
    "scatter-add": _scatter("add"),
    "scatter-max": _scatter("max"),
    "scatter-min": _scatter("min"),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
}
