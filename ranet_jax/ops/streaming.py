"""Eqs. 1-5 in passes over the pairs of pixels, without storing a table of all pairs.

A first pass over the pairs finds the pixel that each pixel points at, a second sums attention
within the regions, and the backward pass goes over the pairs once more; each pass recomputes the
attention of a pair. The order of the pairs is determined by a schedule
(`ranet_jax.ops.schedules`), one for each kind of machine.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ranet_jax.ops import dense
from ranet_jax.ops.checks import (
    DISTRIBUTIONS,
    FLOATS,
    PROBABILITIES,
    ArrayLike,
    as_arrays,
    check_number,
)
from ranet_jax.ops.regions import follow_pointers
from ranet_jax.ops.schedules import Inputs, choose_schedule
from ranet_jax.ops.schedules.schedule import SMALLEST, attention_gradients, filtered_attention


def region_map(
    boundary: Float[ArrayLike, "h w"],
    probabilities: Float[ArrayLike, "h w c"],
    kernel: Float[ArrayLike, "k k"],
    threshold: float | Float[Array, ""],
    schedule: str = "auto",
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Divide the pixels into regions and score them (Eqs. 1-5), without storing a table of pairs.

    The result equals that of `segment_max`, `jensen_shannon`, `region_attention`, `regularize`,
    `region_decision`, `partition` and `representative_score` applied in sequence
    (`dense.region_map`), up to rounding. Everything is computed in float32, whatever the dtype of
    the inputs.

    Gradients flow only through the score, because labels are discrete. Where several samples of a
    segment lie within 2^-23 of the largest (2^-22 if a side has more than 256 pixels, and so on),
    the gradient goes to the first of them, counted from the pixel of smaller index. Only
    reverse-mode differentiation is supported. Time is O(n^2 (c + max(h, w))).

    A kernel larger than 1 x 1 takes the dense path, with about twenty tables of 4 n^2 bytes.

    Args:
      boundary: probability of a boundary at each pixel, in [0, 1].
      probabilities: category distribution of each pixel, whose entries sum to 1. To convert rows
        [n, c], as used by `jensen_shannon`, call `rows.reshape(h, w, c)`; to convert back,
        `probabilities.reshape(-1, c)`.
      kernel: W^g of Eq. 4, of odd size.
      threshold: tau of Eq. 4, in [0, 1].
      schedule: a key of `schedules.SCHEDULES`, or "auto" to choose by the platform.

    Returns:
      The root pixel of each pixel's region, and the score J of each pixel, in [0, 1]; both over
      row-major pixel indices, n = h * w.

    Raises:
      ValueError: the maps differ in size or do not hold probabilities, the kernel is even or not
        square, or the schedule is unknown.
    """
    boundary, probabilities, kernel = as_arrays(
        boundary=(boundary, PROBABILITIES, "h w"),
        probabilities=(probabilities, DISTRIBUTIONS, "h w c"),
        kernel=(kernel, FLOATS, "k k"),
    )
    check_number("threshold", threshold)
    boundary, probabilities, kernel = (
        x.astype(jnp.float32) for x in (boundary, probabilities, kernel)
    )
    if kernel.shape[0] > 1:
        return dense.region_map(boundary, probabilities, kernel, threshold)
    by_category = jnp.moveaxis(probabilities, -1, 0)
    weight, least = kernel[0, 0], jnp.asarray(threshold, jnp.float32)
    return _region_map(schedule, boundary, by_category, weight, least)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _region_map(
    schedule: str, boundary: Array, probabilities: Array, weight: Array, threshold: Array
) -> tuple[Array, Array]:
    """Labels and score for probabilities [c, h, w] and a 1 x 1 kernel."""
    passes = choose_schedule(schedule)
    inputs = Inputs.of(boundary, probabilities)
    numbers = jnp.arange(boundary.size, dtype=jnp.int32)
    pointers = passes.pointers(inputs, weight, threshold).reshape(-1)
    labels = follow_pointers(jnp.minimum(pointers, numbers))
    together = passes.sum_together(inputs, weight, labels.reshape(boundary.shape))
    to_itself = filtered_attention(boundary, 0.0, weight)
    return labels, (together + to_itself).reshape(-1) / _area(labels)


def _forward(
    schedule: str, boundary: Array, probabilities: Array, weight: Array, threshold: Array
) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    labels, score = _region_map(schedule, boundary, probabilities, weight, threshold)
    return (labels, score), (boundary, probabilities, weight, labels)


def _backward(
    schedule: str, saved: tuple[Array, ...], cotangents: tuple[ArrayLike, ArrayLike]
) -> tuple[Array, Array, Array, Array]:
    boundary, probabilities, weight, labels = saved
    # How much the loss changes per unit of attention within the region of each pixel.
    share = (jnp.asarray(cotangents[1]) / _area(labels)).reshape(boundary.shape)
    inputs = Inputs.of(boundary, probabilities)
    passes = choose_schedule(schedule)
    gradients = passes.gradients(inputs, weight, labels.reshape(boundary.shape), share)
    # The same for each pixel's attention to itself, where D = B and E = 0.
    to_itself, _, to_weight = attention_gradients(boundary, 0.0, weight, share)
    to_probabilities = jnp.where(probabilities >= SMALLEST, gradients.probabilities, 0)
    return (
        gradients.boundary + to_itself,
        to_probabilities,
        gradients.weight + jnp.sum(to_weight),
        jnp.zeros_like(weight),
    )


_region_map.defvjp(_forward, _backward)


def _area(labels: Array) -> Array:
    """Number of pixels in the region of each pixel."""
    return jnp.zeros(labels.shape, jnp.float32).at[labels].add(1.0)[labels]
