"""Eqs. 1-5 in passes over the pairs of pixels, without ever a table of them.

A first pass over the pairs finds the pixel that each pixel points at, a second sums attention
within the regions, and the backward pass goes over them once more; each computes the attention of
a pair anew, in the order of `ranet_jax.ops.pairs`. Memory is a few copies of the category maps.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ranet_jax.ops import dense
from ranet_jax.ops.pairs import Pairs, visit_pairs
from ranet_jax.ops.regions import follow_pointers
from ranet_jax.ops.shapes import check_shapes

TINY = float(jnp.finfo(jnp.float32).tiny)
# Smaller probabilities count as 0: their ratios would be computed from denormal numbers.
SMALLEST = 4 * TINY
# Half a nat, in bits.
HALF_NAT = 0.5 / math.log(2)


def region_map(
    boundary: Float[Array, "h w"],
    probabilities: Float[Array, "h w c"],
    kernel: Float[Array, "k k"],
    threshold: float,
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Divide the pixels into regions and score them (Eqs. 1-5), in memory of O(n c).

    Equals `segment_max`, `jensen_shannon`, `region_attention`, `regularize`, `region_decision`,
    `partition` and `representative_score` in a row (`dense.region_map`), to rounding. All is
    float32, whatever the inputs are.

    Gradients flow through the score; where samples of a segment lie within 2^-23 of the largest
    (2^-22 if a side has more than 256 pixels, and so on), the first of them from the pixel of
    smaller index takes the gradient.
    Reverse-mode differentiation alone is supported. Time is O(n^2 (c + max(h, w))).

    A kernel larger than 1 x 1 takes the dense path, with some twenty tables of 4 n^2 bytes.

    Args:
      boundary: probability of a boundary at each pixel, in [0, 1].
      probabilities: category distribution of each pixel, its entries summing to 1.
      kernel: W^g of Eq. 4, of odd size.
      threshold: tau of Eq. 4, in [0, 1].

    Returns:
      The root pixel of each pixel's region, and the score J of each pixel, in [0, 1]; both over
      row-major pixel indices, n = h * w.

    Raises:
      ValueError: the maps differ in size, or the kernel is even or not square.
    """
    sizes = check_shapes(
        boundary=(boundary, "h w"), probabilities=(probabilities, "h w c"), kernel=(kernel, "k k")
    )
    boundary, probabilities, kernel = (
        x.astype(jnp.float32) for x in (boundary, probabilities, kernel)
    )
    if sizes["k"] > 1:
        return dense.region_map(boundary, probabilities, kernel, threshold)
    by_category = jnp.moveaxis(probabilities, -1, 0)
    return _region_map(boundary, by_category, kernel[0, 0], jnp.asarray(threshold, jnp.float32))


class _Inputs(NamedTuple):
    """Maps over the grid of which the attention of a pair is made."""

    boundary: Array
    probabilities: Array
    logs: Array

    @classmethod
    def of(cls, boundary: Array, probabilities: Array) -> "_Inputs":
        positive = probabilities >= SMALLEST
        logs = jnp.where(positive, jnp.log(jnp.where(positive, probabilities, 1)), 0)
        return cls(boundary, probabilities, logs)


@jax.custom_vjp
def _region_map(
    boundary: Array, probabilities: Array, weight: Array, threshold: Array
) -> tuple[Array, Array]:
    """Labels and score for probabilities [c, h, w] and a 1 x 1 kernel."""
    inputs = _Inputs.of(boundary, probabilities)
    labels = _labels(inputs, weight, threshold)
    together = _sum_together(inputs, weight, labels.reshape(boundary.shape))
    to_itself = jnp.clip(weight * (1 - boundary.reshape(-1)), 0, 1)
    return labels, (together.reshape(-1) + to_itself) / _area(labels)


def _forward(
    boundary: Array, probabilities: Array, weight: Array, threshold: Array
) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    labels, score = _region_map(boundary, probabilities, weight, threshold)
    return (labels, score), (boundary, probabilities, weight, labels)


def _backward(
    saved: tuple[Array, ...], cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    boundary, probabilities, weight, labels = saved
    # What the loss gains by one more unit of attention within the region of each pixel.
    share = cotangents[1] / _area(labels)
    inputs = _Inputs.of(boundary, probabilities)
    height, width = boundary.shape
    share = share.reshape(height, width)
    maps = (inputs, labels.reshape(height, width), share)
    last = 2 ** max(2, (max(height, width) - 1).bit_length()) - 1

    def visit(pairs: Pairs, maps: tuple, totals: tuple) -> tuple:
        inputs, labels, share = maps
        to_boundary, to_first, to_second, to_weight = totals
        largest, step = _largest_sample(pairs, inputs.boundary, last)
        divergence = _divergence(pairs, inputs)
        attention = (1 - largest) * (1 - divergence)
        first, second = pairs.both(share)
        filtered = weight * attention
        unclipped = _together(pairs, labels) & (filtered >= 0) & (filtered <= 1)
        unclipped_attention = jnp.where(unclipped, attention, 0)
        to_weight = _add(_add(to_weight, 0, unclipped_attention), pairs.shift, unclipped_attention)
        gradient = jnp.where(unclipped, weight * (first + second), 0)
        to_boundary = _add_crossing_gradient(
            pairs, to_boundary, step, last, gradient * (divergence - 1)
        )
        to_first, to_second = _add_divergence_gradient(
            pairs, inputs, (to_first, to_second), gradient * (largest - 1)
        )
        return to_boundary, to_first, to_second, to_weight

    totals = (boundary, probabilities, probabilities, boundary)
    to_boundary, to_first, to_second, to_weight = visit_pairs(visit, (height, width), maps, totals)
    to_probabilities = jnp.where(probabilities >= SMALLEST, to_first + to_second, 0)
    # And of each pixel's attention to itself, 1 - B before the kernel.
    itself = weight * (1 - boundary)
    share_unclipped = jnp.where((itself >= 0) & (itself <= 1), share, 0)
    to_boundary -= weight * share_unclipped
    to_weight = jnp.sum(share * to_weight) + jnp.sum(share_unclipped * (1 - boundary))
    return to_boundary, to_probabilities, to_weight, jnp.zeros_like(weight)


_region_map.defvjp(_forward, _backward)


def _area(labels: Array) -> Array:
    """Number of pixels of each pixel's region."""
    return jnp.zeros(labels.shape, jnp.float32).at[labels].add(1.0)[labels]


def _labels(inputs: _Inputs, weight: Array, threshold: Array) -> Array:
    """The root pixel of each pixel's region (`partition`)."""
    height, width = inputs.boundary.shape
    count = height * width
    numbers = jnp.arange(count, dtype=jnp.int32).reshape(height, width)

    def visit(pairs: Pairs, maps: tuple[_Inputs, Array], pointers: Array) -> Array:
        inputs, numbers = maps
        linked = pairs.exist & (_filtered_attention(pairs, inputs, weight) > threshold)
        first, second = pairs.both(numbers)
        for shift, other in ((0, second), (pairs.shift, first)):
            smaller = jnp.minimum(pairs.window(pointers, shift), jnp.where(linked, other, count))
            pointers = jax.lax.dynamic_update_slice(pointers, smaller, (shift,))
        return pointers

    pointers = visit_pairs(
        visit, (height, width), (inputs, numbers), numbers, jnp.minimum, neutral=count
    )
    return follow_pointers(jnp.minimum(pointers, numbers).reshape(-1))


def _sum_together(inputs: _Inputs, weight: Array, labels: Array) -> Array:
    """Sum of each pixel's filtered attention to the other pixels of its region, [h, w]."""

    def visit(pairs: Pairs, maps: tuple[_Inputs, Array], total: Array) -> Array:
        inputs, labels = maps
        attention = _filtered_attention(pairs, inputs, weight)
        attention = jnp.where(_together(pairs, labels), attention, 0)
        return _add(_add(total, 0, attention), pairs.shift, attention)

    height, width = labels.shape
    return visit_pairs(visit, (height, width), (inputs, labels), inputs.boundary)


def _together(pairs: Pairs, labels: Array) -> Array:
    """Which pairs lie within one region."""
    first, second = pairs.both(labels)
    return pairs.exist & (first == second)


def _filtered_attention(pairs: Pairs, inputs: _Inputs, weight: Array) -> Array:
    """F^g of the pairs (Eqs. 1-4)."""
    attention = (1 - _crossing(pairs, inputs.boundary)) * (1 - _divergence(pairs, inputs))
    return jnp.clip(weight * attention, 0, 1)


def _crossing(pairs: Pairs, boundary: Array) -> Array:
    """D of the pairs (Eq. 1)."""
    shifts, fractions, _ = pairs.inner_samples()

    def keep_larger(t: Array, largest: Array) -> Array:
        return jnp.maximum(largest, _interpolate(pairs, boundary, shifts[t], fractions[t]))

    ends = jnp.maximum(*pairs.both(boundary))
    return _repeat(pairs.num_inner_samples, keep_larger, ends)


def _interpolate(pairs: Pairs, boundary: Array, shift: Array, fraction: Array) -> Array:
    near, far = pairs.window(boundary, shift), pairs.window(boundary, shift + 1)
    return near + fraction * (far - near)


def _largest_sample(pairs: Pairs, boundary: Array, last: int) -> tuple[Array, Array]:
    """D of the pairs, and the number of the first sample that has it.

    The first pixel is number 0 and the second `last`, which is of the form 2^k - 1 and exceeds the
    number of every sample between them; samples come first from the pixel of smaller index. One
    integer holds both, the value in front, so that one maximum finds them: the value has 24 bits,
    as many as a float32, or what the number leaves.
    """
    shifts, fractions, numbers = pairs.inner_samples()
    bits = last.bit_length()
    unit = float(2 ** min(24, 31 - bits) - 1)

    def pack(value: Array, number: Array) -> Array:
        rank = jnp.where(pairs.second_is_smaller, number, last - number)
        return ((jnp.clip(value, 0, 1) * unit).astype(jnp.int32) << bits) | rank

    def keep_larger(t: Array, largest: Array) -> Array:
        value = _interpolate(pairs, boundary, shifts[t], fractions[t])
        return jnp.maximum(largest, pack(value, numbers[t]))

    first, second = pairs.both(boundary)
    # Of two equal ends, that of smaller index.
    at_second = (second > first) | ((second == first) & pairs.second_is_smaller)
    ends = pack(jnp.maximum(first, second), jnp.where(at_second, last, 0))
    packed = _repeat(pairs.num_inner_samples, keep_larger, ends)
    largest = jnp.minimum((packed >> bits).astype(jnp.float32) / unit, 1)
    rank = packed & last
    return largest, jnp.where(pairs.second_is_smaller, rank, last - rank)


def _divergence(pairs: Pairs, inputs: _Inputs) -> Array:
    """E of the pairs (Eq. 2), summed in terms that are exactly 0 where two pixels agree."""

    def add_category(k: Array, total: Array) -> Array:
        p, q = pairs.both_of_row(inputs.probabilities, k)
        log_p, log_q = _log_ratios(pairs, inputs, k)
        return total + (p * log_p + q * log_q)

    start = jnp.zeros(pairs.length, jnp.float32)
    total = _repeat(inputs.probabilities.shape[0], add_category, start)
    return jnp.clip(HALF_NAT * total, 0, 1)


def _log_ratios(pairs: Pairs, inputs: _Inputs, k: Array) -> tuple[Array, Array]:
    """ln(p / u) and ln(q / u), u = (p + q) / 2, for the probabilities of category k."""
    p, q = pairs.both_of_row(inputs.probabilities, k)
    log_p, log_q = pairs.both_of_row(inputs.logs, k)
    log_u = jnp.log(jnp.maximum((p + q) / 2, TINY))
    return log_p - log_u, log_q - log_u


def _add_crossing_gradient(
    pairs: Pairs, total: Array, step: Array, last: int, gradient: Array
) -> Array:
    """Add what each pair's largest sample, number `step`, gains to the pixels it lies between.

    A sample at an end, number 0 or `last`, gives that pixel the whole.
    """
    shifts, fractions, _ = pairs.inner_samples()
    total = _add(total, 0, jnp.where(step == 0, gradient, 0))
    total = _add(total, pairs.shift, jnp.where(step == last, gradient, 0))
    # One window longer by an entry: its pixel i is near of pair i and far of pair i - 1.
    near_step, far_step = jnp.pad(step, (0, 1)), jnp.pad(step, (1, 0))
    near_gradient, far_gradient = jnp.pad(gradient, (0, 1)), jnp.pad(gradient, (1, 0))

    def add_sample(t: Array, total: Array) -> Array:
        near = jnp.where(near_step == t + 1, (1 - fractions[t]) * near_gradient, 0)
        far = jnp.where(far_step == t + 1, fractions[t] * far_gradient, 0)
        return _add(total, shifts[t], near + far)

    return _repeat(pairs.num_inner_samples, add_sample, total)


def _add_divergence_gradient(
    pairs: Pairs, inputs: _Inputs, totals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """Add what the divergence of each pair gains to the probabilities of its two pixels.

    First and second pixels have totals of their own: XLA updates both in place only so.
    """

    def add_category(k: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        to_first, to_second = totals
        log_p, log_q = _log_ratios(pairs, inputs, k)
        to_first = _add_to_row(to_first, k, jnp.int32(0), gradient * log_p)
        to_second = _add_to_row(to_second, k, pairs.shift, gradient * log_q)
        return to_first, to_second

    gradient = HALF_NAT * gradient
    return _repeat(inputs.probabilities.shape[0], add_category, totals)


def _repeat(count: int, body: Callable[[Array, Any], Any], start: Any) -> Any:
    """Call `totals = body(i, totals)` for i below `count`, with an i of 32 bits as shifts have."""
    return jax.lax.fori_loop(jnp.int32(0), jnp.int32(count), body, start)


def _add(flat: Array, shift: Array | int, values: Array) -> Array:
    window = jax.lax.dynamic_slice(flat, (shift,), values.shape)
    return jax.lax.dynamic_update_slice(flat, window + values, (shift,))


def _add_to_row(flat: Array, row: Array, shift: Array, values: Array) -> Array:
    window = jax.lax.dynamic_slice(flat, (row, shift), (1, values.shape[0]))
    return jax.lax.dynamic_update_slice(flat, window + values[None], (row, shift))
