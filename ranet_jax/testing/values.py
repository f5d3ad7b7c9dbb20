"""Checks of what an operation returns: its values and its dtypes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ranet_jax.testing.arguments import FloatArguments, Operation, cast, to_jax, to_numpy
from ranet_jax.testing.comparison import compare, is_float, require_finite
from ranet_jax.testing.gradients import gradients_of

# Difference that a dtype's rounding explains, as a share of the value and besides: 2^-8 is half a
# step of bfloat16, of which an operation may take some. Of float64 only float32's is asked, since
# both are compared with a result in float32.
TOLERANCES = {"bfloat16": 2.0**-5, "float16": 2.0**-8, "float32": 1e-5, "float64": 1e-5}


def check_value(
    operation: Operation,
    reference: Operation,
    *arguments: Any,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Compare an operation's results with those of a reference.

    Args:
      operation: what is checked.
      reference: the same in other words, such as NumPy loops; it is given NumPy arrays, those of
        floats in float64.
      arguments: of both.
      rtol: allowed difference as a share of the reference's value.
      atol: allowed difference besides.

    Raises:
      AssertionError: a result differs in shape or value.
    """
    arguments = to_jax(arguments)
    expected = reference(*to_numpy(arguments))
    compare(
        "check_value", "the result", operation(*arguments), "the reference", expected, rtol, atol
    )


def check_dtypes(
    operation: Operation,
    *arguments: Any,
    dtypes: Sequence[str] = ("bfloat16", "float32", "float64"),
    argnums: Sequence[int] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Check that results and gradients have the dtype of the arguments, and lose no more than it.

    For each dtype the floats among the arguments are rounded to it. The results' floats must have
    it too, and be close to those in float32 of the rounded arguments; so must the gradients of
    their sum be finite and of that dtype. Where only the result is rounded, as in an operation that
    sums in float32, `rtol=0.0, atol=0.0` asks for exactly that.

    Args:
      operation: what is checked.
      arguments: of the operation, in float32.
      dtypes: those to check; float64 is, for as long as it takes, enabled in JAX.
      argnums: the arguments to round, others keep their dtype; all if None.
      rtol: allowed difference as a share of the value; if None, what fits the dtype.
      atol: allowed difference besides; if None, the same.

    Raises:
      AssertionError: a result or a gradient has another dtype, or differs by more.
    """
    for dtype in dtypes:
        loose = TOLERANCES[dtype]
        with jax.enable_x64(dtype == "float64"):
            _check_dtype(
                operation,
                FloatArguments(operation, to_jax(arguments), argnums),
                dtype,
                loose if rtol is None else rtol,
                loose if atol is None else atol,
            )


def _check_dtype(
    operation: Operation, floats: FloatArguments, dtype: str, rtol: float, atol: float
) -> None:
    rounded = [jnp.asarray(value, dtype) for value in floats.values]
    widened = [value.astype(jnp.float32) for value in rounded]
    subject = f"the result for {dtype} arguments"
    found = operation(*floats.with_values(rounded))
    _require_dtype(subject, found, dtype)
    expected = cast(operation(*floats.with_values(widened)), dtype)
    compare("check_dtypes", subject, found, "float32 arguments", expected, rtol, atol)
    gradients = gradients_of(operation, floats, rounded)
    for name, gradient in zip(floats.names, gradients, strict=True):
        subject = f"the gradient by {name} in {dtype}"
        _require_dtype(subject, gradient, dtype)
        require_finite("check_dtypes", subject, gradient)


def _require_dtype(subject: str, found: Any, dtype: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        if is_float(leaf) and jnp.result_type(leaf) != jnp.dtype(dtype):
            raise AssertionError(
                f"check_dtypes: {subject}{jax.tree_util.keystr(path)} has the dtype"
                f" {jnp.result_type(leaf)}, but must have {dtype}."
            )
