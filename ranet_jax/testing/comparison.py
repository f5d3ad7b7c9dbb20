"""Comparison of two results, and the error message of a failed check."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def compare(
    check: str, subject: str, found: Any, source: str, expected: Any, rtol: float, atol: float
) -> None:
    """Compare the arrays of two pytrees in order; floats within a tolerance, others exactly.

    NaN equals only NaN. The containers may differ, such as a NamedTuple and a tuple.

    Args:
      check: the name of the check.
      subject: what `found` is, such as "the result".
      found: the pytree to check.
      source: where `expected` comes from, such as "the reference".
      expected: the expected pytree.
      rtol: allowed relative difference.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: there are no arrays, or they differ; the message names the place where they
        differ most.
    """
    paths, expected_leaves = jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected)
    if not paths and not expected_leaves:
        raise AssertionError(
            f"{check}: {subject} holds no array to check; return what the operation computes."
        )
    if len(paths) != len(expected_leaves):
        raise AssertionError(
            f"{check}: {subject} has {len(paths)} arrays, but {len(expected_leaves)} are expected"
            f" from {source}."
        )
    for (path, leaf), wanted in zip(paths, expected_leaves, strict=True):
        name = subject + jax.tree_util.keystr(path)
        _compare_arrays(check, name, leaf, source, wanted, rtol, atol)


def _compare_arrays(
    check: str, name: str, found: Any, source: str, expected: Any, rtol: float, atol: float
) -> None:
    if np.shape(found) != np.shape(expected):
        raise AssertionError(
            f"{check}: {name} has the shape {np.shape(found)}, but {np.shape(expected)} is expected"
            f" from {source}."
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
    tolerance = f"atol {atol:g}, rtol {rtol:g}" if inexact else "none, because they are not floats"
    raise AssertionError(
        f"{check}: {name}{at(place)} is {_shown(found, place)}, but {_shown(expected, place)} is"
        f" expected from {source} (tolerance: {tolerance})."
    )


def require_finite(check: str, subject: str, found: Any) -> None:
    """Raise `AssertionError` with the place if an array of a pytree holds NaN or infinity."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        wrong = np.argwhere(~np.isfinite(exact(leaf)))
        if len(wrong):
            place = tuple(wrong[0].tolist())
            raise AssertionError(
                f"{check}: {subject}{jax.tree_util.keystr(path)}{at(place)} is"
                f" {_shown(leaf, place)}, but must be finite."
            )


def is_float(x: Any) -> bool:
    """Whether an array or a number has a float (or complex) dtype."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.inexact))


def exact(x: Any) -> np.ndarray:
    """Convert to a NumPy array of float64 (or complex128), which is exact for every dtype."""
    array = np.asarray(x)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def at(place: tuple[Any, ...]) -> str:
    """The text for a place in an array, for error messages; empty for a scalar."""
    return f" at [{', '.join(str(int(index)) for index in place)}]" if place else ""


def _shown(x: Any, place: tuple[Any, ...]) -> str:
    value = np.asarray(x)[place]
    return f"{float(value):.8g}" if is_float(x) and not np.iscomplexobj(value) else str(value)
