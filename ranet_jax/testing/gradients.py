"""Checks of an operation's gradients: they match finite differences, and they are finite."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax.testing.arguments import FloatArguments, Operation, to_jax, to_numpy
from ranet_jax.testing.comparison import compare, is_float, require_finite


def check_gradients(
    operation: Operation,
    *arguments: Any,
    reference: Operation | None = None,
    argnums: Sequence[int] | None = None,
    step: float = 1e-5,
    rtol: float = 1e-3,
    atol: float = 2e-4,
    seed: int = 0,
) -> None:
    """Compare an operation's gradients with central differences in float64.

    The differentiated function is a sum of the floats among the results with random weights, so
    that each of them contributes. The operation must be smooth at the arguments: at ties and kinks,
    finite differences and gradients give different slopes. Use `check_ties` there.

    Args:
      operation: the operation to check, in the dtype of the arguments.
      arguments: the arguments at which to check; floats in float32 or float64.
      reference: the function whose finite differences are computed, which gets NumPy arrays of
        float64; if None, the operation itself with JAX's float64 enabled.
      argnums: the arguments to differentiate with respect to; if None, all that hold floats.
      step: by how much each number is moved up and down.
      rtol: allowed relative difference of the slope.
      atol: allowed absolute difference, added to the relative one.
      seed: seed of the weights.

    Raises:
      AssertionError: a gradient differs.
      ValueError: there is no reference, and the operation does not compute in float64.
    """
    arguments = to_jax(arguments)
    floats = FloatArguments(operation, arguments, argnums)
    found = gradients_of(operation, floats, floats.values, seed)
    if reference is None:
        source = "finite differences"
        expected = _own_differences(operation, arguments, argnums, step, seed)
    else:
        source = "finite differences of the reference"
        exact = FloatArguments(operation, to_numpy(arguments), argnums)
        expected = _central_differences(
            lambda values: _weighted_sum(reference(*exact.with_values(values)), seed),
            exact.values,
            step,
        )
    for name, gradient, slopes in zip(floats.names, found, expected, strict=True):
        compare(
            "check_gradients",
            f"the gradient with respect to {name}",
            gradient,
            source,
            slopes,
            rtol,
            atol,
        )


def check_finite(
    operation: Operation,
    *arguments: Any,
    argnums: Sequence[int] | None = None,
    scales: Sequence[float] = (0.0, 1e-30, 1.0, 1e3, 1e6),
) -> None:
    """Check that results and gradients hold neither NaN nor infinity, whatever the magnitude.

    Args:
      operation: the operation to check.
      arguments: the arguments of the operation.
      argnums: the arguments to multiply and to differentiate with respect to; if None, all that
        hold floats.
      scales: factors to check with; each multiplies all these arguments at once. Probabilities
        cannot be multiplied; draw extreme ones (`inputs.degenerate_maps`) and pass `scales=(1.0,)`.

    Raises:
      AssertionError: a result or a gradient is not finite.
    """
    floats = FloatArguments(operation, to_jax(arguments), argnums)

    @jax.jit
    def run(values: list[Any]) -> tuple[Any, list[Any]]:
        return operation(*floats.with_values(values)), _gradients(operation, floats, values, 0)

    for scale in scales:
        scaled = "" if scale == 1 else f" with arguments x {scale:g}"
        result, gradients = run([value * scale for value in floats.values])
        require_finite("check_finite", f"the result{scaled}", result)
        for name, gradient in zip(floats.names, gradients, strict=True):
            require_finite("check_finite", f"the gradient with respect to {name}{scaled}", gradient)


def gradients_of(
    operation: Operation, floats: FloatArguments, values: Sequence[Any], seed: int = 0
) -> list[jax.Array]:
    """Compute gradients with respect to the floats, at these values, under `jax.jit`.

    The differentiated function is the sum of the floats among the results with random weights.
    """
    return jax.jit(lambda x: _gradients(operation, floats, x, seed))([*values])


def _gradients(
    operation: Operation, floats: FloatArguments, values: list[Any], seed: int
) -> list[jax.Array]:
    return jax.grad(lambda x: _weighted_sum(operation(*floats.with_values(x)), seed))(values)


def _weighted_sum(results: Any, seed: int) -> Any:
    """The sum of all floats, each with a random weight; computed in NumPy for NumPy arrays."""
    total: Any = 0.0
    for number, leaf in enumerate(jax.tree.leaves(results)):
        if not is_float(leaf):
            continue
        weights = np.random.default_rng((seed, number)).normal(size=np.shape(leaf))
        if isinstance(leaf, jax.Array):
            # A sum in half precision would be too coarse.
            dtype = jnp.float64 if leaf.dtype == jnp.float64 else jnp.float32
            total = total + jnp.sum(leaf.astype(dtype) * jnp.asarray(weights, dtype))
        else:
            total = total + np.sum(np.asarray(leaf, np.float64) * weights)
    return total


def _own_differences(
    operation: Operation,
    arguments: Sequence[Any],
    argnums: Sequence[int] | None,
    step: float,
    seed: int,
) -> list[np.ndarray]:
    """Central differences of the operation itself, which must accept and return float64."""
    with jax.enable_x64(True):
        floats = FloatArguments(operation, to_numpy(arguments), argnums)

        def results(values: list[Any]) -> Any:
            return operation(*floats.with_values(values))

        for leaf in jax.tree.leaves(jax.eval_shape(results, floats.values)):
            if is_float(leaf) and leaf.dtype != jnp.float64:
                raise ValueError(
                    f"the operation returns {leaf.dtype} for float64, which is too coarse for"
                    " finite differences; give a reference in float64"
                )
        return _central_differences(
            jax.jit(lambda values: _weighted_sum(results(values), seed)), floats.values, step
        )


def _central_differences(
    function: Callable[[list[np.ndarray]], Any], values: list[np.ndarray], step: float
) -> list[np.ndarray]:
    """Slopes of a function of arrays with respect to each number of each array."""
    slopes = [np.zeros_like(value) for value in values]
    for number, value in enumerate(values):
        for place in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = [*values]
                moved[number] = value.copy()
                moved[number][place] += sign * step
                ends.append(float(function(moved)))
            slopes[number][place] = (ends[0] - ends[1]) / (2 * step)
    return slopes
