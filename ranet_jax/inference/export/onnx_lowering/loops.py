"""Loops and branches, as nodes of ONNX that contain graphs."""

from collections.abc import Callable, Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from ranet_jax.inference.export.onnx_lowering.graph import Graph, NotInONNX, Value, typed
from ranet_jax.inference.export.rewriting import default_branch

LowerProgram = Callable[[Graph, ClosedJaxpr, Sequence[Value]], list[Value]]
# Adds the operations of one turn to the body of a loop, given the turn's number and the carried
# values. It returns the name of the flag for another turn, the new carried values, and the
# collected values.
Turn = Callable[[Graph, str, list[Value]], tuple[str, list[Value], list[Value]]]


def _while(
    graph: Graph, equation: JaxprEqn, values: list[Value], lower_program: LowerProgram
) -> list[Value]:
    parameters = equation.params
    first = parameters["cond_nconsts"]
    second = first + parameters["body_nconsts"]
    of_test, of_body, carried = values[:first], values[first:second], values[second:]
    (goes_on,) = lower_program(graph, parameters["cond_jaxpr"], [*of_test, *carried])

    def turn(body: Graph, number: str, inside: list[Value]) -> tuple[str, list[Value], list[Value]]:
        results = lower_program(body, parameters["body_jaxpr"], [*of_body, *inside])
        (again,) = lower_program(body, parameters["cond_jaxpr"], [*of_test, *results])
        return body.full(again), results, []

    return _loop(graph, "", graph.full(goes_on), carried, turn, equation)


def _scan(
    graph: Graph, equation: JaxprEqn, values: list[Value], lower_program: LowerProgram
) -> list[Value]:
    parameters, length = equation.params, equation.params["length"]
    first = parameters["num_consts"]
    second = first + parameters["num_carry"]
    constants, carried, listed = values[:first], values[first:second], values[second:]
    names = [graph.full(value) for value in listed]

    def turn(body: Graph, number: str, inside: list[Value]) -> tuple[str, list[Value], list[Value]]:
        if parameters["reverse"]:
            number = body.node("Sub", body.scalar(length - 1, np.int64), number)
        items = [
            Value(value.shape[1:], value.dtype, value.shape[1:], body.node("Gather", name, number))
            for name, value in zip(names, listed, strict=True)
        ]
        results = lower_program(body, parameters["jaxpr"], [*constants, *inside, *items])
        again = body.scalar(True, np.bool_)
        return again, results[: len(carried)], results[len(carried) :]

    results = _loop(graph, graph.scalar(length, np.int64), "", carried, turn, equation)
    if not parameters["reverse"]:
        return results
    last = graph.names.initializer(np.arange(length - 1, -1, -1))
    return [
        *results[: len(carried)],
        *(graph.result("Gather", [each.name, last], each) for each in results[len(carried) :]),
    ]


def _loop(
    graph: Graph, turns: str, goes_on: str, carried: list[Value], turn: Turn, equation: JaxprEqn
) -> list[Value]:
    body = graph.inner()
    number, test = graph.names.new("number"), graph.names.new("test")
    inside = [graph.value(graph.names.new("carried"), value) for value in carried]
    again, results, collected = turn(body, number, inside)
    outputs: list[tuple[str, tuple[int, ...], np.dtype]] = [
        (body.node("Identity", again), (), np.dtype(np.bool_))
    ]
    outputs += [
        (body.node("Identity", body.full(value)), value.shape, value.dtype)
        for value in (*results, *collected)
    ]
    proto = body.proto(
        graph.names.new("turn"),
        [
            typed(number, (), np.int64),
            typed(test, (), np.bool_),
            *(typed(value.name, value.shape, value.dtype) for value in inside),
        ],
        [typed(*output) for output in outputs],
    )
    inputs = [turns, goes_on, *map(graph.full, carried)]
    names = graph.nodes_of("Loop", inputs, len(equation.outvars), body=proto)
    return [graph.value(name, out.aval) for name, out in zip(names, equation.outvars, strict=True)]


def _cond(
    graph: Graph, equation: JaxprEqn, values: list[Value], lower_program: LowerProgram
) -> list[Value]:
    which, *operands = values
    branches = equation.params["branches"]
    default = default_branch(equation.params)
    if default is not None:
        return lower_program(graph, default, operands)
    if len(branches) != 2:
        raise NotInONNX(f"a conditional of {len(branches)} branches")

    def branch(program: ClosedJaxpr) -> object:
        body = graph.inner()
        results = lower_program(body, program, operands)
        outputs = [
            typed(body.node("Identity", body.full(value)), value.shape, value.dtype)
            for value in results
        ]
        return body.proto(graph.names.new("branch"), [], outputs)

    chosen = graph.node("Greater", graph.full(which), graph.scalar(0, which.dtype))
    names = graph.nodes_of(
        "If",
        [graph.reshape(chosen, ())],
        len(equation.outvars),
        then_branch=branch(branches[1]),
        else_branch=branch(branches[0]),
    )
    return [graph.value(name, out.aval) for name, out in zip(names, equation.outvars, strict=True)]


LOWERINGS = {"while": _while, "scan": _scan, "cond": _cond}
