"""FLOPs of convolutions and matrix products, counted by formula from a function's jaxpr."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

# What is counted, by the name of its primitive.
COUNTED = ("conv_general_dilated", "dot_general")
# Primitives that run their jaxprs an unknown number of times.
UNCOUNTABLE = ("while", "pallas_call", "shard_map", "custom_linear_solve")

Flops = dict[str, int]


def count_flops(function: Callable[..., Any], *arguments: Any) -> Flops:
    """FLOPs of a function by primitive, two per multiply-add, from the shapes of its arguments.

    For each output number, convolutions (`conv_general_dilated`) take `2 kh kw c/groups` and matrix
    products (`dot_general`) two for each number that is summed over. Zeros that pad or dilate count
    like any number. The body of a scan counts as often as it runs, a cond counts its most expensive
    branch, and any other nested jaxpr counts once. Element-wise operations and reductions are not
    counted.

    Args:
      function: what to count; it is traced, not run.
      arguments: arrays, or `jax.ShapeDtypeStruct`s.

    Raises:
      ValueError: a convolution or matrix product is in a loop of unknown length, or in something
        else that runs it an unknown number of times.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> Flops:
    total = dict.fromkeys(COUNTED, 0)
    for equation in jaxpr.eqns:
        for name, flops in _count_equation(equation).items():
            total[name] += flops
    return total


def _count_equation(equation: JaxprEqn) -> Flops:
    name = equation.primitive.name
    if name == "dot_general":
        return {name: _product_flops(equation)}
    if name == "conv_general_dilated":
        return {name: _convolution_flops(equation)}
    nested = [_count(jaxpr) for jaxpr in _nested_jaxprs(equation.params)]
    if name == "cond":
        return max(nested, key=lambda flops: sum(flops.values()))
    total = {counted: sum(flops[counted] for flops in nested) for counted in COUNTED}
    if name == "scan":
        return {counted: equation.params["length"] * flops for counted, flops in total.items()}
    if name in UNCOUNTABLE and any(total.values()):
        raise ValueError(
            f"A {name} holds convolutions or matrix products, and how often it runs them is not"
            " known."
        )
    return total


def _nested_jaxprs(value: Any) -> Iterator[Jaxpr]:
    """The jaxprs among an equation's parameters."""
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _nested_jaxprs(entry)
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _nested_jaxprs(entry)


def _product_flops(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, outputs = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return 2 * math.prod(outputs) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(equation: JaxprEqn) -> int:
    """FLOPs from the kernel: an output number sums over all kernel axes except the output axis."""
    kernel, outputs = _shape(equation.invars[1]), _shape(equation.outvars[0])
    output_axis = equation.params["dimension_numbers"].rhs_spec[0]
    return 2 * math.prod(outputs) * (math.prod(kernel) // kernel[output_axis])


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
