"""Checks of the arguments of `ranet_jax.ops`, and the error messages for wrong ones.

Ranks, sizes and dtypes are known while a program is traced, but values are not: under `jax.jit`
and other transformations the checks of values are skipped. No check adds to the program.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import Array

# Nested lists of numbers are accepted as well, which jaxtyping cannot express.
ArrayLike = Array | np.ndarray
# Height and width: integers or, in programs for any size, symbols of `jax.export`.
GridShape = tuple[Any, Any]
# Sizes of axes by their letters, which may be symbols too.
Sizes = dict[str, Any]

# How far a probability may lie outside [0, 1], and a sum of probabilities may differ from 1. It
# allows for rounding in half precision and for the steps of finite differences.
TOLERANCE = 0.01


class Kind(NamedTuple):
    """The allowed content of an array: its dtype, the name of that dtype, and a check of values.

    `fault(values, sizes)` gets the sizes of the axis letters. It returns the rest of an error
    message that starts with the argument's name, or "" if the values are valid.
    """

    dtype: Any
    name: str
    fault: Callable[[np.ndarray, Sizes], str] = lambda values, sizes: ""


def _outside_unit(values: np.ndarray, sizes: Sizes) -> str:
    wrong = ~((values >= -TOLERANCE) & (values <= 1 + TOLERANCE))
    if not wrong.any():
        return ""
    return f"must hold probabilities, in [0, 1], but holds {values[wrong][0]:.3g}"


def _no_distribution(values: np.ndarray, sizes: Sizes) -> str:
    outside = _outside_unit(values, sizes)
    if outside:
        return f"{outside}; take the softmax of logits first"
    sums = values.sum(axis=-1)
    wrong = ~(np.abs(sums - 1) <= TOLERANCE)
    if not wrong.any():
        return ""
    place = tuple(np.argwhere(wrong)[0].tolist())
    return f"must sum to 1 over the last axis, but the sum at {place} is {sums[place]:.3g}"


def _outside_pixels(values: np.ndarray, sizes: Sizes, least: int = 0) -> str:
    wrong = (values < least) | (values >= sizes["n"])
    if not wrong.any():
        return ""
    return f"must lie in [{least}, {sizes['n']}), but holds {values[wrong][0]}"


FLOATS = Kind(jnp.floating, "floats")
PROBABILITIES = Kind(jnp.floating, "floats", _outside_unit)
DISTRIBUTIONS = Kind(jnp.floating, "floats", _no_distribution)
INTEGERS = Kind(jnp.integer, "integers")
# Numbers of pixels, and roots of slots, which are -1 for empty slots.
PIXELS = Kind(jnp.integer, "integers", _outside_pixels)
ROOTS = Kind(jnp.integer, "integers", lambda values, sizes: _outside_pixels(values, sizes, -1))
BOOLS = Kind(jnp.bool_, "bools")
REAL = (jnp.floating, jnp.integer)


# An argument's value, its kind and its layout.
Checked = tuple[Any, Kind, str]


def as_arrays(**arguments: Checked) -> tuple[Array, ...]:
    """Check arguments and return them as JAX arrays, in their order.

    Each keyword is an argument's name with its value, its kind and its layout, such as
    `score=(score, FLOATS, "n")`. A letter that occurs twice must have the same size each time. A
    layout that starts with "..." allows any number of additional axes. Numbers of pixels become
    int32.

    Raises:
      ValueError: an argument has the wrong rank, size or dtype, or values that its kind does not
        allow; values are checked only where they are known.
    """
    given = {name: _to_array(name, value, kind) for name, (value, kind, _) in arguments.items()}
    sizes = check_shapes(
        **{name: (given[name], layout) for name, (_, _, layout) in arguments.items()}
    )
    for name, (_, kind, _) in arguments.items():
        _check_values(name, given[name], kind, sizes)
    return tuple(
        _to_jax(array, kind)
        for array, (_, kind, _) in zip(given.values(), arguments.values(), strict=True)
    )


def _to_array(name: str, value: Any, kind: Kind) -> ArrayLike:
    """Convert a value to an array, and raise `ValueError` if its dtype is not that of its kind."""
    array = value
    if not isinstance(value, Array | np.ndarray):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must be an array, but its rows differ in length") from error
        if kind.dtype is jnp.floating and jnp.issubdtype(array.dtype, jnp.integer):
            array = array.astype(np.float32)  # a Python list [[1]] means [[1.0]]
    if not jnp.issubdtype(array.dtype, kind.dtype):
        raise ValueError(f"{name} must hold {kind.name}, but has the dtype {array.dtype}")
    return array


def check_shapes(**arrays: tuple[ArrayLike, str]) -> Sizes:
    """Bind the axis letters of several arrays and return their sizes.

    Each keyword is an argument's name with its array and its layout, such as
    `score=(score, "n")` or `x=(x, "... h w c")`; a letter that occurs twice must have the same size
    each time.

    Raises:
      ValueError: the rank of an array differs from that of its layout, or a letter has two sizes.
    """
    sizes: Sizes = {}
    for name, (array, layout) in arrays.items():
        letters = layout.removeprefix("... ").split()
        any_more = layout.startswith("... ") and array.ndim > len(letters)
        if array.ndim != len(letters) and not any_more:
            raise ValueError(
                f"{name} must have the axes [{layout}], but its shape is {array.shape}"
            )
        own = array.shape[array.ndim - len(letters) :]
        for letter, size in zip(letters, own, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(
                    f"{name} [{layout}] has shape {array.shape}, but {letter} must be"
                    f" {sizes[letter]} to match the other arguments"
                )
    return sizes


def _check_values(name: str, array: ArrayLike, kind: Kind, sizes: Sizes) -> None:
    if isinstance(array, jax.core.Tracer):
        return
    if isinstance(array, Array) and not array.is_fully_addressable:
        return
    values = np.asarray(array)
    fault = kind.fault(values.astype(np.float32) if kind.dtype is jnp.floating else values, sizes)
    if fault:
        raise ValueError(f"{name} {fault}")


def _to_jax(array: ArrayLike, kind: Kind) -> Array:
    result = array if isinstance(array, Array) else jnp.asarray(array)
    return result.astype(jnp.int32) if kind in (PIXELS, ROOTS) else result


def check_number(name: str, value: Any) -> None:
    """Check that a value is a single real number: a Python or NumPy number, or a traced one.

    Raises:
      ValueError: the value is an array with axes, a bool or not a number.
    """
    number = value if isinstance(value, Array) else np.asarray(value)
    if number.ndim or not any(jnp.issubdtype(number.dtype, kind) for kind in REAL):
        raise ValueError(f"{name} must be a single number, but is {value!r}")


def whole_number(name: str, value: Any) -> int:
    """Return the value as a Python integer.

    Raises:
      ValueError: the value is not an integer.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be an integer, but is {value!r}") from error


def positive_integer(name: str, value: Any) -> int:
    """Return the value as a Python integer.

    Raises:
      ValueError: the value is not an integer, or less than 1.
    """
    number = whole_number(name, value)
    if number < 1:
        raise ValueError(f"{name} must be positive, but is {number}")
    return number


def index_below(name: str, value: Any, count: int) -> Any:
    """Return the value as a Python integer in [0, count), or unchanged if it is traced.

    Raises:
      ValueError: the value is not an integer in [0, count).
    """
    if isinstance(value, jax.core.Tracer):
        return value
    number = whole_number(name, value)
    if not 0 <= number < count:
        raise ValueError(f"{name} must lie in [0, {count}), but is {number}")
    return number


def grid_shape(name: str, value: Sequence[Any]) -> GridShape:
    """Return the value as (height, width), which may be symbols in a program for any size.

    Raises:
      ValueError: the value is not a pair of positive integers.
    """
    try:
        height, width = (
            size if jax.export.is_symbolic_dim(size) else operator.index(size) for size in value
        )
    except (TypeError, ValueError):
        height, width = 0, 0
    if height < 1 or width < 1:
        raise ValueError(f"{name} must be positive integers (height, width), but is {value!r}")
    return height, width
