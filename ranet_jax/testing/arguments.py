"""The arguments of an operation: their names, and the arrays of floats among them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Operation = Callable[..., Any]


class FloatArguments:
    """The float arrays among an operation's arguments, for which gradients are computed.

    Attributes:
      values: the arrays, from the requested arguments.
      names: the name of each array in error messages.
      argnums: the number of the argument that each array belongs to.
    """

    def __init__(
        self, operation: Operation, arguments: Sequence[Any], argnums: Sequence[int] | None = None
    ):
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(tuple(arguments))
        self._leaves = [leaf for _, leaf in leaves]
        names = argument_names(operation, len(arguments))
        wanted = range(len(arguments)) if argnums is None else argnums
        self._numbers = [
            number
            for number, (path, leaf) in enumerate(leaves)
            if path[0].idx in wanted and is_float_array(leaf)
        ]
        paths = [leaves[number][0] for number in self._numbers]
        self.values = [self._leaves[number] for number in self._numbers]
        self.names = [names[path[0].idx] + jax.tree_util.keystr(path[1:]) for path in paths]
        self.argnums = [path[0].idx for path in paths]

    def with_values(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return all arguments, with other arrays in place of `values`."""
        leaves = list(self._leaves)
        for number, value in zip(self._numbers, values, strict=True):
            leaves[number] = value
        return jax.tree.unflatten(self._structure, leaves)


def argument_names(operation: Operation, count: int) -> list[str]:
    """Name arguments "argument 0 (logits)" and so on, by number only if the name is unknown."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = [*inspect.signature(operation).parameters.values()]
    except (TypeError, ValueError):
        parameters = []
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return [
        f"argument {number}" + (f" ({names[number]})" if number < len(names) else "")
        for number in range(count)
    ]


def for_each(in_axes: Any, count: int) -> list[Any]:
    """Return one entry of `in_axes` per argument; a value that is not a sequence applies to all.

    Raises:
      ValueError: `in_axes` is a sequence of a different length.
    """
    axes = [*in_axes] if isinstance(in_axes, Sequence) else [in_axes] * count
    if len(axes) != count:
        raise ValueError(f"in_axes names {len(axes)} arguments, but there are {count}")
    return axes


def is_array(x: Any) -> bool:
    """Whether a value is a JAX or NumPy array."""
    return isinstance(x, jax.Array | np.ndarray)


def is_float_array(x: Any) -> bool:
    """Whether a value is an array of real floats."""
    return is_array(x) and bool(jnp.issubdtype(x.dtype, jnp.floating))


def to_jax(arguments: Any) -> Any:
    """Convert arguments for an operation: arrays become JAX arrays."""
    return jax.tree.map(lambda x: jnp.asarray(x) if is_array(x) else x, arguments)


def to_numpy(arguments: Any) -> Any:
    """Convert arguments for a reference: arrays become NumPy arrays, floats become float64."""

    def convert(x: Any) -> Any:
        if not is_array(x):
            return x
        array = np.asarray(x)
        return array.astype(np.float64) if is_float_array(x) else array

    return jax.tree.map(convert, arguments)


def cast(arguments: Any, dtype: Any) -> Any:
    """Convert the float arrays among the arguments to another dtype."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if is_float_array(x) else x, arguments)
