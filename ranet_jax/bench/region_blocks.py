"""The two blocks that `ranet bench regions` measures, and their gradients, for one image."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ranet_jax import ops
from ranet_jax.models.context.ranet import REGION_PATHS

CHANNELS, NUM_REGIONS, PER_REGION, THRESHOLD = 512, 64, 8, 0.8


def construct(
    path: str,
    boundary: Float[Array, "h w"],
    probabilities: Float[Array, "h w c"],
    kernel: Float[Array, "k k"],
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Labels and scores of the regions (Eqs. 1-5) on a path of `config.model.region_path`."""
    return REGION_PATHS[path](boundary, probabilities, kernel, THRESHOLD)


def interact(
    labels: Int[Array, " n"], score: Float[Array, " n"], features: Float[Array, "n m"]
) -> tuple[Int[Array, " n"], Float[Array, "n m"]]:
    """The unchanged labels, and the features with context (Eqs. 6-8)."""
    chosen = ops.select_representatives(score, labels, NUM_REGIONS, PER_REGION)
    local = ops.collect(features, score, labels, chosen)
    context = ops.interact(local, score, chosen)
    return labels, ops.distribute(features, score, labels, chosen, context)


def construct_and_interact(
    path: str,
    boundary: Float[Array, "h w"],
    probabilities: Float[Array, "h w c"],
    kernel: Float[Array, "k k"],
    features: Float[Array, "n m"],
) -> tuple[Int[Array, " n"], Float[Array, "n m"]]:
    """Labels of the regions, and the features with context (Eqs. 1-8)."""
    labels, score = construct(path, boundary, probabilities, kernel)
    return interact(labels, score, features)


def with_gradient(function: Callable[..., tuple[Array, Array]], count: int) -> Callable[..., Any]:
    """What a function returns, and the gradient of its summed values by the first arguments.

    Both are needed in training; for the gradient alone, XLA would leave out the pass that only the
    values need.
    """

    def total(*arguments: Array) -> tuple[Array, tuple[Array, Array]]:
        labels, values = function(*arguments)
        return jnp.sum(values), (labels, values)

    return jax.value_and_grad(total, argnums=tuple(range(count)), has_aux=True)
