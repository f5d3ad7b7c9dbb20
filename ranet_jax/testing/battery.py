"""All checks that need only an operation, its arguments and optionally a reference."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ranet_jax.testing.arguments import Operation
from ranet_jax.testing.gradients import check_finite, check_gradients
from ranet_jax.testing.transformations import check_jit, check_vmap
from ranet_jax.testing.values import check_dtypes, check_value


def check_operation(
    operation: Operation,
    examples: Sequence[tuple[Any, ...]],
    reference: Operation | None = None,
    dtypes: Sequence[str] = ("bfloat16", "float32", "float64"),
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Check values, gradients, finiteness, dtypes, `jax.jit` and `jax.vmap`.

    Values (if there is a reference), gradients and finiteness are checked at each example, dtypes
    and `jax.jit` at the first example, and `jax.vmap` at all examples that have the shapes of the
    first. Masks, ties and the order of places have separate checks, because these depend on the
    meaning of an axis.

    Args:
      operation: the operation to check, without `jax.jit` around it.
      examples: tuples of arguments at which the operation is smooth. The check of `jax.vmap` needs
        two or more of the same shape, and is otherwise left out.
      reference: see `check_value`.
      dtypes: see `check_dtypes`.
      rtol: allowed relative difference of values.
      atol: allowed absolute difference of values, added to the relative one.

    Raises:
      AssertionError: a check fails.
      ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("examples must hold at least one tuple of arguments")
    if reference is not None:
        for arguments in examples:
            check_value(operation, reference, *arguments, rtol=rtol, atol=atol)
    check_jit(operation, *examples[0], rtol=rtol, atol=atol)
    alike = [arguments for arguments in examples if _shapes(arguments) == _shapes(examples[0])]
    if len(alike) > 1:
        batches = jax.tree.map(lambda *leaves: np.stack(leaves), *alike)
        check_vmap(operation, *batches, rtol=rtol, atol=atol)
    for arguments in examples:
        check_finite(operation, *arguments, scales=(1.0,))
        check_gradients(operation, *arguments, reference=reference)
    check_dtypes(operation, *examples[0], dtypes=dtypes)


def _shapes(arguments: tuple[Any, ...]) -> list[tuple[int, ...]]:
    return [np.shape(leaf) for leaf in jax.tree.leaves(arguments)]
