"""Checks of what an operation returns: its values and its dtypes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ranet_jax.testing.arguments import FloatArguments, Operation, cast, to_jax, to_numpy
from ranet_jax.testing.comparison import compare, is_float, require_finite
from ranet_jax.testing.gradients import gradients_of

# The difference that the rounding of a dtype explains, used as both relative and absolute
# tolerance. For bfloat16, 2^-8 is half a step, and an operation may round several times. float64
# gets the tolerance of float32, because both are compared with a result in float32.
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
      operation: the operation to check.
      reference: an independent implementation, such as NumPy loops; it gets NumPy arrays, with
        floats in float64.
      arguments: the arguments of both.
      rtol: allowed difference relative to the reference's value.
      atol: allowed absolute difference, added to the relative one.

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
    """Check that results and gradients keep the dtype of the arguments and its precision.

    For each dtype, the floats among the arguments are rounded to it. The floats among the results
    must have that dtype too, and be close to the results in float32 for the rounded arguments. The
    gradients of the weighted sum of the results must be finite and have that dtype. For an
    operation that rounds only its result, such as one that sums in float32, pass
    `rtol=0.0, atol=0.0` to require exactly that.

    Args:
      operation: the operation to check.
      arguments: the arguments of the operation, in float32.
      dtypes: the dtypes to check; float64 is temporarily enabled in JAX for its check.
      argnums: the arguments to round, while others keep their dtype; all if None.
      rtol: allowed relative difference; if None, a value that fits the dtype.
      atol: allowed absolute difference, added to the relative one; if None, the same value.

    Raises:
      AssertionError: a result or a gradient has another dtype, a result differs by more, or a
        gradient is not finite.
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
        subject = f"the gradient with respect to {name} in {dtype}"
        _require_dtype(subject, gradient, dtype)
        require_finite("check_dtypes", subject, gradient)


def _require_dtype(subject: str, found: Any, dtype: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        if is_float(leaf) and jnp.result_type(leaf) != jnp.dtype(dtype):
            raise AssertionError(
                f"check_dtypes: {subject}{jax.tree_util.keystr(path)} has the dtype"
                f" {jnp.result_type(leaf)}, but must have {dtype}."
            )
