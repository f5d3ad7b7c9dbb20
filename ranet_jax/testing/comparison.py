"""How two results are compared, and the sentence with which a check fails."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def compare(
    check: str, subject: str, found: Any, source: str, expected: Any, rtol: float, atol: float
) -> None:
    """Compare the arrays of two pytrees in their order; floats may differ, other numbers not.

    NaN equals NaN alone. The containers may differ, a NamedTuple from a tuple.

    Args:
      check: the check's name.
      subject: what `found` is, such as "the result".
      found: what is checked.
      source: where `expected` comes from, such as "the reference".
      expected: what it must be.
      rtol: allowed difference as a share of the expected value.
      atol: allowed difference besides.

    Raises:
      AssertionError: there are none, or they differ; the sentence names the place where they
        differ most.
    """
    paths, expected_leaves = jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected)
    if not paths and not expected_leaves:
        raise AssertionError(
            f"{check}: {subject} holds no array to check; return what the operation computes."
        )
    if len(paths) != len(expected_leaves):
        raise AssertionError(
            f"{check}: {subject} has {len(paths)} arrays, but that of {source}"
            f" has {len(expected_leaves)}."
        )
    for (path, leaf), wanted in zip(paths, expected_leaves, strict=True):
        name = subject + jax.tree_util.keystr(path)
        _compare_arrays(check, name, leaf, source, wanted, rtol, atol)


def _compare_arrays(
    check: str, name: str, found: Any, source: str, expected: Any, rtol: float, atol: float
) -> None:
    if np.shape(found) != np.shape(expected):
        raise AssertionError(
            f"{check}: {name} has the shape {np.shape(found)}, but that of {source}"
            f" has {np.shape(expected)}."
        )
    inexact = is_float(found) or is_float(expected)
    x, y = exact(found), exact(expected)
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = atol + rtol * np.abs(y) if inexact else np.zeros(y.shape)
        excess = np.where((x == y) | (np.isnan(x) & np.isnan(y)), -np.inf, np.abs(x - y) - allowed)
    excess = np.where(np.isnan(excess), np.inf, excess)
    if not (excess > 0).any():
        return
    place = np.unravel_index(int(np.argmax(excess)), excess.shape)
    tolerance = f"atol {atol:g}, rtol {rtol:g}" if inexact else "none, they are no floats"
    raise AssertionError(
        f"{check}: {name}{at(place)} is {_shown(found, place)}, but that of {source} is"
        f" {_shown(expected, place)} (tolerance: {tolerance})."
    )


def require_finite(check: str, subject: str, found: Any) -> None:
    """Raise `AssertionError` if an array of a pytree holds NaN or infinity, naming the place."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        wrong = np.argwhere(~np.isfinite(exact(leaf)))
        if len(wrong):
            place = tuple(wrong[0].tolist())
            raise AssertionError(
                f"{check}: {subject}{jax.tree_util.keystr(path)}{at(place)} is"
                f" {_shown(leaf, place)}, but must be finite."
            )


def is_float(x: Any) -> bool:
    """Whether an array or a number is one of floats."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.inexact))


def exact(x: Any) -> np.ndarray:
    """An array in NumPy, as float64 (or complex128), in which numbers of every dtype are exact."""
    array = np.asarray(x)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def at(place: tuple[Any, ...]) -> str:
    """A place in an array as it is said in a sentence; nothing for a scalar."""
    return f" at [{', '.join(str(int(index)) for index in place)}]" if place else ""


def _shown(x: Any, place: tuple[Any, ...]) -> str:
    value = np.asarray(x)[place]
    return f"{float(value):.8g}" if is_float(x) and not np.iscomplexobj(value) else str(value)
