"""From a traced program to an ONNX model: equation by equation, loops and branches included."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from onnx import helper

from ranet_jax.errors import UserError
from ranet_jax.inference.export.onnx_lowering import elementwise, indexing, loops, products, shapes
from ranet_jax.inference.export.onnx_lowering.graph import (
    Graph,
    NotInONNX,
    Value,
    constant,
    typed,
)
from ranet_jax.inference.export.rewriting import called_program, evaluated, is_small

OPSET = 20
# The version of the file format that goes with the opset.
IR_VERSION = 9

LOWERINGS: dict[str, elementwise.Lowering] = {
    **elementwise.LOWERINGS,
    **shapes.LOWERINGS,
    **indexing.LOWERINGS,
    **products.LOWERINGS,
}


def to_onnx(
    function: Callable[..., Any],
    argument: jax.ShapeDtypeStruct,
    input_name: str,
    output_names: Sequence[str],
) -> onnx.ModelProto:
    """The ONNX model of a function that takes one array and returns a tuple of arrays.

    `argument` has the shape and dtype of that array.

    Raises:
      UserError: the function has an operation that cannot be converted.
    """
    program = jax.make_jaxpr(function)(argument)
    graph = Graph()
    image = graph.value(input_name, argument)
    results = lower_program(graph, program, [image])
    for name, result in zip(output_names, results, strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.full(result)], [name]))
    proto = graph.proto(
        "ranet_jax",
        [typed(input_name, argument.shape, argument.dtype)],
        [typed(n, r.shape, r.dtype) for n, r in zip(output_names, results, strict=True)],
    )
    proto.initializer.extend(graph.names.initializers.values())
    return helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ranet_jax",
    )


def lower_program(graph: Graph, program: ClosedJaxpr, inputs: Sequence[Value]) -> list[Value]:
    """Add the nodes of a program, and return its results."""
    jaxpr = program.jaxpr
    values = dict(zip(jaxpr.constvars, map(constant, program.consts), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(variable: Any) -> Value:
        if isinstance(variable, Literal):  # its value may be a Python number
            aval: Any = variable.aval
            return constant(np.asarray(variable.val, aval.dtype))
        return values[variable]

    for equation in _needed(jaxpr):
        results = _lower(graph, equation, [read(variable) for variable in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations that the results depend on."""
    needed, equations = {v for v in jaxpr.outvars if not isinstance(v, Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
            equations.append(equation)
    return equations[::-1]


def _lower(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    called, name = called_program(equation), equation.primitive.name
    if called is not None:
        return lower_program(graph, called, values)
    results: list[Any] = [variable.aval for variable in equation.outvars]
    if any(result.dtype == jnp.bfloat16 for result in results):
        raise UserError(
            "The network computes in bfloat16, which ONNX Runtime does not support on CPUs; set"
            " config.model.dtype to float32."
        )
    if name not in shapes.LAZY and is_small(results):
        known = [np.broadcast_to(v.array, v.shape) for v in values if v.array is not None]
        if len(known) == len(values) and is_small(values):
            arrays = [jnp.asarray(array) for array in known]
            return [constant(result) for result in evaluated(equation, arrays)]
    if name not in LOWERINGS:
        raise UserError(
            f"Format onnx lacks the operation {name} of the network; choose another format."
        )
    try:
        return LOWERINGS[name](graph, equation, values)
    except NotInONNX as error:
        raise UserError(
            f"Format onnx lacks an operation of the network ({error}); choose another format."
        ) from error


LOWERINGS |= {
    name: functools.partial(lowering, lower_program=lower_program)
    for name, lowering in loops.LOWERINGS.items()
}
