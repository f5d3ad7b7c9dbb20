"""Check of a mask: masked places have no influence on the results."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax.testing.arguments import FloatArguments, Operation, for_each, is_float_array, to_jax
from ranet_jax.testing.comparison import compare, require_finite
from ranet_jax.testing.gradients import gradients_of

# The value written into masked places, which is visible in any result that depends on it.
SPOILT = 1e3


def check_masking(
    operation: Operation,
    *arguments: Any,
    mask_argnum: int = -1,
    in_axes: int | Sequence[int | None] | None = 0,
    out_axes: int | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Check that masking a place is equivalent to deleting it.

    Three things are checked. The results equal those of the arguments without the masked places.
    They do not depend on the values in the masked places, and no gradient reaches these places. A
    mask that leaves out everything gives finite results and gradients.

        softmax over 3 logits, of which 2 are masked in     over those 2 alone
        logits   1    3    2                                1    2
        mask     1    0    1                                1    1
        result   0.27 0    0.73                             0.27 0.73

    Args:
      operation: the operation to check.
      arguments: the arguments of the operation, including the mask: bools [places], true where a
        place counts. Check the rows of a mask with several rows one at a time.
      mask_argnum: number of the argument that is the mask.
      in_axes: the axis of each argument that runs over the places; None for an argument without
        one. The axis of the mask is 0.
      out_axes: the axis of the results that runs over the places; only the places that count are
        compared. None if the results have no such axis, as after a sum over the places.
      rtol: allowed difference relative to the result without the masked places.
      atol: allowed absolute difference, added to the relative one.

    Raises:
      AssertionError: a masked place influences a result or a gradient, or an empty mask gives NaN
        or infinity.
      ValueError: the mask leaves out nothing or everything, or is not a mask.
    """
    arguments = to_jax(arguments)
    mask_argnum %= len(arguments)
    mask = np.asarray(arguments[mask_argnum])
    if mask.dtype != bool or mask.ndim != 1 or mask.all() or not mask.any():
        raise ValueError("the mask must be bools [places], some of them true and some false")
    axes = for_each(in_axes, len(arguments))
    kept, left_out = np.flatnonzero(mask), np.flatnonzero(~mask)

    def counted(*arguments: Any) -> Any:
        """Return the results of the places that count."""
        results = operation(*arguments)
        if out_axes is None:
            return results
        return jax.tree.map(lambda x: jnp.take(x, kept, out_axes), results)

    found = counted(*arguments)
    alone = operation(*_change(arguments, axes, lambda x, axis: jnp.take(x, kept, axis)))
    compare("check_masking", "the result", found, "the unmasked places alone", alone, rtol, atol)

    spoilt = counted(*_change(arguments, axes, lambda x, axis: _spoil(x, axis, mask)))
    subject = "the result with other values in masked places"
    compare("check_masking", subject, spoilt, "the original values", found, rtol, atol)

    floats = FloatArguments(operation, arguments)
    gradients = gradients_of(counted, floats, floats.values)
    for name, argnum, gradient in zip(floats.names, floats.argnums, gradients, strict=True):
        axis = axes[argnum]
        if axis is not None:
            masked = np.take(np.asarray(gradient), left_out, axis)
            subject = f"the gradient with respect to masked places of {name}"
            nothing = np.zeros_like(masked)
            compare(
                "check_masking", subject, masked, "a place without influence", nothing, 0.0, 0.0
            )

    empty = [*arguments]
    empty[mask_argnum] = jnp.zeros(mask.shape, bool)
    require_finite("check_masking", "the result for an empty mask", operation(*empty))
    floats = FloatArguments(operation, empty)
    gradients = gradients_of(operation, floats, floats.values)
    for name, gradient in zip(floats.names, gradients, strict=True):
        subject = f"the gradient with respect to {name} for an empty mask"
        require_finite("check_masking", subject, gradient)


def _change(
    arguments: Sequence[Any], axes: Sequence[int | None], change: Callable[[Any, int], Any]
) -> list[Any]:
    """Apply a function of array and axis to each argument that has an axis of places."""
    return [
        argument if axis is None else jax.tree.map(lambda x, axis=axis: change(x, axis), argument)
        for argument, axis in zip(arguments, axes, strict=True)
    ]


def _spoil(x: Any, axis: int, mask: np.ndarray) -> Any:
    """An array of floats with `SPOILT` in its masked places; any other array as it is."""
    if not is_float_array(x):
        return x
    shape = [1] * x.ndim
    shape[axis] = len(mask)
    return jnp.where(jnp.asarray(mask).reshape(shape), x, jnp.asarray(SPOILT, x.dtype))
