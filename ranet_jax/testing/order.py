"""Checks of how the results of an operation depend on the order of its arguments."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax.testing.arguments import (
    FloatArguments,
    Operation,
    argument_names,
    for_each,
    is_float_array,
    to_jax,
)
from ranet_jax.testing.comparison import compare, is_float
from ranet_jax.testing.gradients import gradients_of

Axes = int | tuple[int, ...] | None


def check_permutation(
    operation: Operation,
    *arguments: Any,
    in_axes: Axes | Sequence[Axes] = 0,
    out_axes: Axes = 0,
    seed: int = 0,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Check that places in another order give the same results in that order.

    Args:
      operation: the operation to check.
      arguments: the arguments of the operation.
      in_axes: the axis of each argument that runs over the places, several axes for a table of
        pairs of places, None for an argument without such an axis: `in_axes=[(0, 1), None]`.
      out_axes: the same for the results; None if they must not change at all.
      seed: seed of the random order.
      rtol: allowed difference relative to the result in the original order.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: a result differs.
      ValueError: the axes of places differ in size, or there are none.
    """
    arguments = to_jax(arguments)
    axes = for_each(in_axes, len(arguments))
    sizes = {
        np.shape(leaf)[axis]
        for argument, own in zip(arguments, axes, strict=True)
        for axis in _as_tuple(own)
        for leaf in jax.tree.leaves(argument)
    }
    if len(sizes) != 1:
        raise ValueError(
            f"in_axes must name axes of the same size, but their sizes are {sorted(sizes)}"
        )
    # Along one random cycle through all places, so that none stays where it was.
    cycle = np.random.default_rng(seed).permutation(sizes.pop())
    order = np.empty_like(cycle)
    order[cycle] = np.roll(cycle, 1)

    def permute(tree: Any, axes: Axes) -> Any:
        for axis in _as_tuple(axes):
            tree = jax.tree.map(lambda x, axis=axis: jnp.take(x, order, axis), tree)
        return tree

    compare(
        "check_permutation",
        "the result in another order",
        operation(*(permute(*pair) for pair in zip(arguments, axes, strict=True))),
        "the original order",
        permute(operation(*arguments), out_axes),
        rtol,
        atol,
    )


def check_equivariance(
    operation: Operation,
    *arguments: Any,
    before: Callable[..., tuple[Any, ...]],
    after: Callable[[Any], Any],
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Check that a change of the arguments, such as mirroring, changes the results accordingly.

    Args:
      operation: the operation to check.
      arguments: the arguments of the operation.
      before: takes the arguments and returns the changed ones, as a tuple.
      after: takes the results and returns the changed ones.
      rtol: allowed difference relative to the changed result.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: `operation(*before(*arguments))` is not `after(operation(*arguments))`.
    """
    arguments = to_jax(arguments)
    compare(
        "check_equivariance",
        "the result of changed arguments",
        operation(*before(*arguments)),
        "the changed result",
        after(operation(*arguments)),
        rtol,
        atol,
    )


def check_ties(
    operation: Operation,
    *arguments: Any,
    argnum: int = 0,
    prefer: Literal["first", "last"] = "first",
    smallest: bool = False,
    step: float = 1e-4,
    rtol: float = 1e-2,
    atol: float = 1e-2,
) -> None:
    """Check which of several equal entries an operation chooses: the first, or the last.

    The arguments hold ties. The check breaks the ties by a small step in favour of the entry that
    must be chosen. The results must then stay the same: integers and bools exactly, floats and the
    gradient within the tolerance.

        0.5  0.5  0.2    must be as    0.5     0.4999  0.1998    where the first is preferred,
                         must be as    0.4998  0.4999  0.2       where the last is

    Args:
      operation: the operation to check.
      arguments: the arguments of the operation.
      argnum: the argument with ties, an array of floats.
      prefer: which of several equal entries must be chosen, in row-major order.
      smallest: whether the operation chooses the smallest entry rather than the largest.
      step: difference between two entries; it must be larger than the operation's rounding.
      rtol: allowed difference of results and gradients relative to those without ties.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: a result or the gradient is not that of the preferred entry.
      ValueError: the argument is not an array of floats, or has no ties.
    """
    arguments = to_jax(arguments)
    tied = arguments[argnum]
    if not is_float_array(tied) or len(np.unique(tied)) == np.size(tied):
        raise ValueError(f"argument {argnum} must be an array of floats that holds ties")
    ramp = step * np.arange(np.size(tied), dtype=np.float64).reshape(np.shape(tied))
    falls = (prefer == "first") != smallest
    offset = -ramp if falls else ramp - (0 if smallest else ramp.max())
    broken = [*arguments]
    broken[argnum] = jnp.asarray(np.asarray(tied, np.float64) + offset, tied.dtype)
    source = f"a call with the {prefer} tied entry preferred by {step:g}"
    results, expected = operation(*arguments), operation(*broken)
    compare("check_ties", "the result", results, source, expected, rtol, atol)
    if any(is_float(leaf) for leaf in jax.tree.leaves(results)):
        floats = FloatArguments(operation, arguments, [argnum])
        moved = FloatArguments(operation, broken, [argnum])
        compare(
            "check_ties",
            f"the gradient with respect to {argument_names(operation, len(arguments))[argnum]}",
            gradients_of(operation, floats, floats.values)[0],
            source,
            gradients_of(operation, moved, moved.values)[0],
            rtol,
            atol,
        )


def _as_tuple(axes: Axes) -> tuple[int, ...]:
    if axes is None:
        return ()
    return (axes,) if isinstance(axes, int) else axes
