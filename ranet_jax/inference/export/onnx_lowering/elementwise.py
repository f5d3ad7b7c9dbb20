"""Elementwise operations, reductions and conversions of dtypes, as nodes of ONNX."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from ranet_jax.inference.export.onnx_lowering.graph import Graph, Value, shape_of

Lowering = Callable[[Graph, JaxprEqn, list[Value]], list[Value]]

# Operations that ONNX has as well.
_SAME = {
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow"},
    **{"max": "Max", "min": "Min", "neg": "Neg", "abs": "Abs", "sign": "Sign", "exp": "Exp"},
    **{"log": "Log", "sqrt": "Sqrt", "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf"},
    **{"floor": "Floor", "ceil": "Ceil", "lt": "Less", "gt": "Greater", "eq": "Equal"},
    **{"le": "LessOrEqual", "ge": "GreaterOrEqual", "lt_to": "Less", "le_to": "LessOrEqual"},
}
_LOGICAL = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}
_BITWISE = {"and": "BitwiseAnd", "or": "BitwiseOr", "xor": "BitwiseXor", "not": "BitwiseNot"}
_REDUCTIONS = {
    **{"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"},
    **{"reduce_prod": "ReduceProd", "reduce_or": "ReduceMax", "reduce_and": "ReduceMin"},
}
_NOTHING = ("stop_gradient", "copy", "copy_p", "optimization_barrier")


def emit(graph: Graph, operation: str, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    """A node whose operands are broadcast as in NumPy, so that none of them has to be expanded."""
    out = shape_of(equation)
    name = graph.node(operation, *map(graph.stored, values))
    return [_broadcast_result(name, out, values)]


def _broadcast_result(name: str, out: Any, values: list[Value]) -> Value:
    stored = np.broadcast_shapes(*(value.stored for value in values))
    stored = (1,) * (len(out.shape) - len(stored)) + stored if stored else stored
    return Value(tuple(out.shape), np.dtype(out.dtype), stored, name)


def _same(operation: str) -> Lowering:
    return lambda graph, equation, values: emit(graph, operation, equation, values)


def _logical(name: str) -> Lowering:
    def lower(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        table = _LOGICAL if values[0].dtype == np.bool_ else _BITWISE
        return emit(graph, table[name], equation, values)

    return lower


def _chain(*operations: str) -> Lowering:
    def lower(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        results = emit(graph, operations[0], equation, values)
        for operation in operations[1:]:
            results = emit(graph, operation, equation, results)
        return results

    return lower


def _rem(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    out = shape_of(equation)
    # With fmod=1 the result has the sign of the dividend, as in C.
    name = graph.node("Mod", *map(graph.stored, values), fmod=1)
    return [_broadcast_result(name, out, values)]


def _integer_pow(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    (value,), power = values, equation.params["y"]
    name = graph.node("Pow", graph.stored(value), graph.scalar(power, value.dtype))
    return [_broadcast_result(name, shape_of(equation), values)]


def _square(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    return emit(graph, "Mul", equation, values * 2)


def _log1p(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    (value,) = values
    name = graph.node("Log", graph.node("Add", graph.stored(value), graph.scalar(1, value.dtype)))
    return [_broadcast_result(name, shape_of(equation), values)]


def _clamp(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    least, value, most = map(graph.stored, values)
    name = graph.node("Min", graph.node("Max", value, least), most)
    return [_broadcast_result(name, shape_of(equation), values)]


def _select(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    which, *cases = values
    names = list(map(graph.stored, cases))
    chosen = graph.stored(which)
    if which.dtype != np.bool_:
        chosen = graph.node("Greater", chosen, graph.scalar(0, which.dtype))
    if cases[0].dtype == np.bool_:  # ONNX Runtime does not choose between booleans
        otherwise = graph.node("And", graph.node("Not", chosen), names[0])
        name = graph.node("Or", graph.node("And", chosen, names[1]), otherwise)
    else:
        name = graph.node("Where", chosen, names[1], names[0])
    return [_broadcast_result(name, shape_of(equation), values)]


def _convert(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    out = shape_of(equation)
    return [_broadcast_result(graph.cast(graph.stored(values[0]), out.dtype), out, values)]


def _reduce(operation: str) -> Lowering:
    def lower(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        (value,), out = values, shape_of(equation)
        name = graph.full(value)
        if value.dtype == np.bool_:
            name = graph.cast(name, np.int32)
        axes = graph.integers(equation.params["axes"])
        name = graph.node(operation, name, axes, keepdims=0)
        return [graph.value(graph.cast(name, out.dtype) if value.dtype == np.bool_ else name, out)]

    return lower


def _arg(operation: str) -> Lowering:
    def lower(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        (value,), (axis,) = values, equation.params["axes"]
        name = graph.full(value)
        if value.dtype == np.bool_:
            name = graph.cast(name, np.int32)
        name = graph.node(operation, name, axis=axis, keepdims=0)
        out = shape_of(equation)
        return [graph.value(graph.cast(name, out.dtype), out)]

    return lower


def _cumsum(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    parameters = equation.params
    name = graph.node(
        "CumSum",
        graph.full(values[0]),
        graph.scalar(parameters["axis"], np.int64),
        reverse=int(parameters["reverse"]),
    )
    return [graph.value(name, shape_of(equation))]


def _sort(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    axis, names = equation.params["dimension"], list(map(graph.full, values))
    # Sort by the last key first: each sort leaves equal entries in their order.
    for key in reversed(range(equation.params["num_keys"])):
        size = graph.integers([values[key].shape[axis]])
        ordered, order = graph.nodes_of("TopK", (names[key], size), 2, axis=axis, largest=0)
        names = [
            ordered if number == key else graph.node("GatherElements", name, order, axis=axis)
            for number, name in enumerate(names)
        ]
    return [graph.value(name, value) for name, value in zip(names, values, strict=True)]


def _top_k(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    best, places = graph.nodes_of(
        "TopK", (graph.full(values[0]), graph.integers([equation.params["k"]])), 2, axis=-1
    )
    shape = shape_of(equation).shape
    return [
        Value(shape, values[0].dtype, shape, best),
        Value(shape, np.dtype(np.int32), shape, graph.cast(places, np.int32)),
    ]


def _unchanged(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    return values


LOWERINGS: dict[str, Lowering] = {
    **{name: _same(operation) for name, operation in _SAME.items()},
    **{name: _logical(name) for name in _LOGICAL},
    **{name: _reduce(operation) for name, operation in _REDUCTIONS.items()},
    **dict.fromkeys(_NOTHING, _unchanged),
    "ne": _chain("Equal", "Not"),
    "rsqrt": _chain("Sqrt", "Reciprocal"),
    "rem": _rem,
    "round": _same("Round"),
    "integer_pow": _integer_pow,
    "square": _square,
    "log1p": _log1p,
    "clamp": _clamp,
    "select_n": _select,
    "convert_element_type": _convert,
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "cumsum": _cumsum,
    "sort": _sort,
    "top_k": _top_k,
}
