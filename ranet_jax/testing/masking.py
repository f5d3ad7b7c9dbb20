"""Check of a mask: what it leaves out has no part in the results."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax.testing.arguments import FloatArguments, Operation, for_each, is_float_array, to_jax
from ranet_jax.testing.comparison import compare, require_finite
from ranet_jax.testing.gradients import gradients_of

# What masked places hold instead, which shows in any result that it has a part in.
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
    """Check that a masked place might as well be deleted.

    Three things are checked: where the mask leaves places out, the results are those of the
    arguments without these places; they do not change with what these places hold, and no gradient
    reaches them; and a mask that leaves out everything gives finite results and gradients.

        softmax over 3 logits, of which 2 are masked in     over those 2 alone
        logits   1    3    2                                1    2
        mask     1    0    1                                1    1
        result   0.27 0    0.73                             0.27 0.73

    Args:
      operation: what is checked.
      arguments: of the operation, the mask among them: bools [places], true where a place counts.
        Of a mask with several rows, one is checked at a time.
      mask_argnum: which argument the mask is.
      in_axes: the axis of each argument that runs over the places; None for one without. The
        mask's own is 0.
      out_axes: the axis of the results that runs over the places, of which those that count are
        compared; None if the results have none, as after a sum over the places.
      rtol: allowed difference as a share of the result without the places.
      atol: allowed difference besides.

    Raises:
      AssertionError: a masked place has a part in a result or a gradient, or an empty mask gives
        NaN or infinity.
      ValueError: the mask leaves out nothing or everything, or is no mask.
    """
    arguments = to_jax(arguments)
    mask_argnum %= len(arguments)
    mask = np.asarray(arguments[mask_argnum])
    if mask.dtype != bool or mask.ndim != 1 or mask.all() or not mask.any():
        raise ValueError("the mask must be bools [places], some of them true and some false")
    axes = for_each(in_axes, len(arguments))
    kept, left_out = np.flatnonzero(mask), np.flatnonzero(~mask)

    def counted(*arguments: Any) -> Any:
        """Results of the places that count."""
        results = operation(*arguments)
        if out_axes is None:
            return results
        return jax.tree.map(lambda x: jnp.take(x, kept, out_axes), results)

    found = counted(*arguments)
    alone = operation(*_change(arguments, axes, lambda x, axis: jnp.take(x, kept, axis)))
    compare("check_masking", "the result", found, "the places alone", alone, rtol, atol)

    spoilt = counted(*_change(arguments, axes, lambda x, axis: _spoil(x, axis, mask)))
    subject = "the result for other values in masked places"
    compare("check_masking", subject, spoilt, "the values as they are", found, rtol, atol)

    floats = FloatArguments(operation, arguments)
    gradients = gradients_of(counted, floats, floats.values)
    for name, argnum, gradient in zip(floats.names, floats.argnums, gradients, strict=True):
        axis = axes[argnum]
        if axis is not None:
            masked = np.take(np.asarray(gradient), left_out, axis)
            subject = f"the gradient by masked places of {name}"
            nothing = np.zeros_like(masked)
            compare("check_masking", subject, masked, "a place without part", nothing, 0.0, 0.0)

    empty = [*arguments]
    empty[mask_argnum] = jnp.zeros(mask.shape, bool)
    require_finite("check_masking", "the result for an empty mask", operation(*empty))
    floats = FloatArguments(operation, empty)
    gradients = gradients_of(operation, floats, floats.values)
    for name, gradient in zip(floats.names, gradients, strict=True):
        subject = f"the gradient by {name} for an empty mask"
        require_finite("check_masking", subject, gradient)


def _change(
    arguments: Sequence[Any], axes: Sequence[int | None], change: Callable[[Any, int], Any]
) -> list[Any]:
    """The arguments, those with an axis of places changed by a function of array and axis."""
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
