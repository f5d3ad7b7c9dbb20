"""Checks of an operation under JAX's transformations, and on batches."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax.testing.arguments import Operation, for_each, to_jax
from ranet_jax.testing.comparison import compare


def check_jit(
    operation: Operation, *arguments: Any, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """Compare an operation's results with and without `jax.jit`.

    Args:
      operation: the operation to check, without `jax.jit` around it.
      arguments: the arguments of the operation, all traced.
      rtol: allowed difference relative to the result without `jax.jit`.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: a result differs in shape or value, or the operation cannot be traced.
    """
    arguments = to_jax(arguments)
    expected = operation(*arguments)
    try:
        found = jax.jit(operation)(*arguments)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise AssertionError(f"check_jit: the operation cannot be traced: {reason}.") from error
    compare("check_jit", "the result under jit", found, "the operation alone", expected, rtol, atol)


def check_vmap(
    operation: Operation,
    *batches: Any,
    in_axes: int | Sequence[int | None] | None = 0,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Compare an operation's results under `jax.vmap` with those of each example.

    Args:
      operation: the operation to check, on one example.
      batches: its arguments, stacked for two examples or more.
      in_axes: the axis of each argument that runs over the examples; None for a shared argument.
      rtol: allowed difference relative to the result of an example alone.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: a result differs in shape or value.
      ValueError: there are fewer than two examples.
    """
    batches, axes = to_jax(batches), for_each(in_axes, len(batches))
    count = _count_examples(batches, axes)
    mapped = jax.jit(jax.vmap(operation, in_axes=tuple(axes)))(*batches)
    alone = jax.jit(operation)
    _compare_each(
        "check_vmap",
        count,
        lambda number: jax.tree.map(lambda x: x[number], mapped),
        lambda number: alone(*_take(batches, axes, number)),
        rtol,
        atol,
    )


def check_batch(
    operation: Operation,
    *batches: Any,
    in_axes: int | Sequence[int | None] | None = 0,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Compare the results of an operation on batches with those of batches of one example.

    A mean over the wrong axes, or an index that runs over the whole batch, makes one example depend
    on another.

    Args:
      operation: the operation to check; the first axis of its results runs over the examples.
      batches: its arguments, for two examples or more.
      in_axes: the axis of each argument that runs over the examples; None for a shared argument.
      rtol: allowed difference relative to the result of an example alone.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: a result differs in shape or value.
      ValueError: there are fewer than two examples.
    """
    batches, axes = to_jax(batches), for_each(in_axes, len(batches))
    count = _count_examples(batches, axes)
    together = operation(*batches)
    _compare_each(
        "check_batch",
        count,
        lambda number: jax.tree.map(lambda x: x[number : number + 1], together),
        lambda number: operation(*_take(batches, axes, [number])),
        rtol,
        atol,
    )


def _compare_each(
    check: str,
    count: int,
    in_batch: Callable[[int], Any],
    alone: Callable[[int], Any],
    rtol: float,
    atol: float,
) -> None:
    """Compare the result of each example of a batch with the result of that example alone."""
    for number in range(count):
        name = f"the result of example {number} of the batch"
        compare(check, name, in_batch(number), "the example alone", alone(number), rtol, atol)


def _take(batches: Sequence[Any], axes: Sequence[int | None], index: int | list[int]) -> list[Any]:
    """Return one example, or for a list of indices the batch of these examples."""
    return [
        batch
        if axis is None
        else jax.tree.map(lambda x, axis=axis: jnp.take(x, np.asarray(index), axis), batch)
        for batch, axis in zip(batches, axes, strict=True)
    ]


def _count_examples(batches: Sequence[Any], axes: Sequence[int | None]) -> int:
    sizes = {
        np.shape(leaf)[axis]
        for batch, axis in zip(batches, axes, strict=True)
        if axis is not None
        for leaf in jax.tree.leaves(batch)
    }
    if len(sizes) != 1 or min(sizes) < 2:
        raise ValueError(
            "the arguments must have the same number of examples, two or more, but have"
            f" {' and '.join(map(str, sorted(sizes))) or 'none'}"
        )
    return sizes.pop()
