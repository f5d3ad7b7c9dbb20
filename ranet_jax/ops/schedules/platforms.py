"""An operation that each platform computes in a different order.

`jax.lax.platform_dependent` traces all orders wherever the operation occurs, and each takes
seconds. This primitive knows the shapes of its results, so that an order is traced only when a
program is lowered for its platform.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


class _Operation(NamedTuple):
    """What to compute on flat arguments, and the structure of the arguments.

    `levels` has an entry for each `vmap` around the operation, the innermost first. The entry tells
    for each flat argument whether it has an axis for that batch; if so, it is the first axis.
    """

    default: Callable[..., Any]
    orders: tuple[tuple[str, Callable[..., Any]], ...]
    results: Callable[..., Any]
    structure: Any
    levels: tuple[tuple[bool, ...], ...] = ()


def by_platform(
    results: Callable[..., Any], default: Callable[..., Any], **orders: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a function that runs the platform's entry of `orders`, or the default without one.

    Args:
      results: a function from the shapes of the arguments to the shapes of the results.
      default: the function for all other platforms.
      orders: functions by platform, "cpu" or "tpu".
    """

    def compute(*arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        structure: Any = jax.tree.structure(arguments)
        operation = _Operation(default, tuple(orders.items()), results, structure)
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        outputs: Any = jax.tree.structure(results(*structure.unflatten(shapes)))
        return outputs.unflatten(_primitive.bind(*leaves, operation=operation))

    return compute


def _abstract(*leaves: Any, operation: _Operation) -> list[Any]:
    shapes, batch = [leaf.shape for leaf in leaves], []
    for mapped in reversed(operation.levels):
        batch.append(next(s[0] for s, is_mapped in zip(shapes, mapped, strict=True) if is_mapped))
        shapes = [s[is_mapped:] for s, is_mapped in zip(shapes, mapped, strict=True)]
    inner = [jax.ShapeDtypeStruct(s, leaf.dtype) for s, leaf in zip(shapes, leaves, strict=True)]
    results = jax.tree.leaves(operation.results(*operation.structure.unflatten(inner)))
    return [ShapedArray((*batch, *x.shape), x.dtype) for x in results]


def _compute(platform: str, *leaves: Any, operation: _Operation) -> list[Any]:
    def compute(*leaves: Any) -> list[Any]:
        order = dict(operation.orders).get(platform, operation.default)
        return jax.tree.leaves(order(*operation.structure.unflatten(leaves)))

    for mapped in operation.levels:
        compute = jax.vmap(compute, [0 if is_mapped else None for is_mapped in mapped])
    return compute(*leaves)


def _batch(leaves: Any, axes: Any, *, operation: _Operation) -> tuple[list[Any], list[int]]:
    mapped = tuple(axis is not batching.not_mapped for axis in axes)
    first = [
        jax.numpy.moveaxis(leaf, axis, 0) if is_mapped else leaf
        for leaf, axis, is_mapped in zip(leaves, axes, mapped, strict=True)
    ]
    outer = operation._replace(levels=(*operation.levels, mapped))
    results = _primitive.bind(*first, operation=outer)
    return results, [0] * len(results)


_primitive = Primitive("by_platform")
_primitive.multiple_results = True
_primitive.def_impl(jax.jit(_primitive.bind, static_argnames="operation"))
_primitive.def_abstract_eval(_abstract)
batching.primitive_batchers[_primitive] = _batch
for _platform in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(
        _primitive,
        mlir.lower_fun(functools.partial(_compute, _platform), multiple_results=True),
        platform=_platform,
    )
