"""All checks that need no more than an operation, its arguments and perhaps a reference."""

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

    Values (if there is a reference), gradients and whether they are finite are checked at each
    example, dtypes and `jax.jit` at the first, and `jax.vmap` at all that have the shapes of the
    first. Masks, ties and the order of
    places have checks of their own, because they ask what an axis means.

    Args:
      operation: what is checked, without `jax.jit` around it.
      examples: one tuple of arguments each, at which the operation is smooth; two or more of one
        shape, or `jax.vmap` is left out.
      reference: see `check_value`.
      dtypes: see `check_dtypes`.
      rtol: allowed difference of values as a share of what they must be.
      atol: allowed difference of values besides.

    Raises:
      AssertionError: a check fails.
      ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("examples must hold one tuple of arguments at least")
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
