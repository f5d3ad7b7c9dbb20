"""Programs in which operations that a runtime lacks are replaced by others."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

# An operation's arguments and parameters -> its results.
Rule = Callable[..., Sequence[Any]]

# Operations that only call a program, which contains everything that they compute.
_CALLS = frozenset(
    (
        *("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint"),
        *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_vmap_call"),
    )
)
# Arrays that do not depend on the arguments are computed beforehand up to this many elements.
FOLDED_ELEMENTS = 2**16
_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")


def called_program(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The program of an operation that does no more than call it; None for all others."""
    if equation.primitive.name not in _CALLS:
        return None
    called = next(equation.params[name] for name in _PROGRAMS if name in equation.params)
    return called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, ())


def default_branch(parameters: Mapping[str, Any]) -> ClosedJaxpr | None:
    """The branch of a `jax.lax.platform_dependent` for platforms that it does not name.

    None if it names them all, and for conditionals of other kinds.

    Args:
      parameters: those of the operation `cond`.
    """
    platforms = parameters.get("branches_platforms")
    if platforms is None or None not in platforms:
        return None
    return parameters["branches"][platforms.index(None)]


def rewritten(
    function: Callable[..., Any], rules: Mapping[str, Rule], fold: bool = False
) -> Callable[..., Any]:
    """The function with operations replaced by name, except inside loops and branches that stay.

    A rule takes an operation's arguments, and its parameters as keywords, and returns its results.
    The function returns a tuple. With `fold`, small arrays that do not depend on the arguments are
    computed beforehand, and the operations that compute them need no rule.
    """

    def replaced(*arguments: Any) -> tuple[Any, ...]:
        program = jax.make_jaxpr(function)(*arguments)
        return tuple(evaluate(program, arguments, rules, fold))

    return replaced


def evaluate(
    program: ClosedJaxpr, arguments: Sequence[Any], rules: Mapping[str, Rule], fold: bool
) -> list[Any]:
    """The results of a traced program, with operations replaced as `rewritten` describes."""
    jaxpr = program.jaxpr
    values = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        called = called_program(equation)
        results: list[Any] = [variable.aval for variable in equation.outvars]
        if called is not None:
            results = evaluate(called, inputs, rules, fold)
        elif fold and is_small(results) and not any(isinstance(x, jax.core.Tracer) for x in inputs):
            with jax.ensure_compile_time_eval():
                results = evaluated(equation, inputs)
        elif equation.primitive.name in rules:
            results = list(rules[equation.primitive.name](*inputs, **equation.params))
        else:
            results = evaluated(equation, inputs)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def is_small(arrays: Sequence[Any]) -> bool:
    """Whether arrays are small enough to compute beforehand if they depend on no argument."""
    sizes = [math.prod(array.shape) for array in arrays]
    # The sizes of arrays with a batch of any size are not integers.
    return all(isinstance(size, int) and size <= FOLDED_ELEMENTS for size in sizes)


def evaluated(equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The results of an operation."""
    results = equation.primitive.bind(*inputs, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


def top_k_by_sorting(values: jax.Array, *, k: int, **_: Any) -> Sequence[jax.Array]:
    """`jax.lax.top_k` along the last axis, by a stable sort of the negated values."""
    places = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    negated, places = jax.lax.sort((-values, places), dimension=-1, num_keys=1, is_stable=True)
    return -negated[..., :k], places[..., :k]


def missing(dtype: Any, filling: Any) -> Any:
    """What `jax.lax.gather` returns for places outside; `filling` may be None."""
    if filling is not None:
        return filling
    if jnp.issubdtype(dtype, jnp.inexact):
        return np.nan
    if dtype == np.bool_:
        return True
    return (
        jnp.iinfo(dtype).min if jnp.issubdtype(dtype, jnp.signedinteger) else jnp.iinfo(dtype).max
    )
