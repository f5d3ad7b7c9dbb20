"""The schedule for CPUs: windows of pairs that share an offset, one after another.

Pairs are visited in the order of `ranet_jax.ops.schedules.pairs`, in windows that fit in a CPU's
cache. Work is skipped at offsets where no pair counts: only D is computed where a boundary
separates all pairs, and nothing is computed where no two pixels belong to the same region.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ranet_jax.ops.schedules.pairs import Pairs, visit_pairs
from ranet_jax.ops.schedules.schedule import (
    HALF_NAT,
    Gradients,
    Inputs,
    Schedule,
    attention_gradients,
    filtered_attention,
    log_mean,
    number_bits,
    pack_sample,
    unpack_sample,
)


def _pointers(inputs: Inputs, weight: Array, threshold: Array) -> Array:
    height, width = inputs.boundary.shape
    count = height * width
    numbers = jnp.arange(count, dtype=jnp.int32).reshape(height, width)

    def visit(pairs: Pairs, maps: tuple[Inputs, Array], pointers: Array) -> Array:
        inputs, numbers = maps
        crossing = _crossing(pairs, inputs.boundary)

        def link(pointers: Array) -> Array:
            attention = filtered_attention(crossing, _divergence(pairs, inputs), weight)
            linked = pairs.exist & (attention > threshold)
            first, second = pairs.both(numbers)
            for shift, other in ((0, second), (pairs.shift, first)):
                window = pairs.window(pointers, shift)
                smaller = jnp.minimum(window, jnp.where(linked, other, count))
                pointers = jax.lax.dynamic_update_slice(pointers, smaller, (shift,))
            return pointers

        # Where D alone keeps two pixels apart, no value of E can link them.
        may_link = pairs.exist & (filtered_attention(crossing, 0.0, weight) > threshold)
        return _where_any(may_link, link, pointers)

    return visit_pairs(
        visit, (height, width), (inputs, numbers), numbers, jnp.minimum, neutral=count
    )


def _sum_together(inputs: Inputs, weight: Array, labels: Array) -> Array:
    def visit(pairs: Pairs, maps: tuple[Inputs, Array], total: Array) -> Array:
        inputs, labels = maps
        together = _together(pairs, labels)

        def add(total: Array) -> Array:
            crossing, divergence = _crossing(pairs, inputs.boundary), _divergence(pairs, inputs)
            attention = filtered_attention(crossing, divergence, weight)
            attention = jnp.where(together, attention, 0)
            return _add(_add(total, 0, attention), pairs.shift, attention)

        return _where_any(together, add, total)

    height, width = labels.shape
    return visit_pairs(visit, (height, width), (inputs, labels), inputs.boundary)


def _gradients(inputs: Inputs, weight: Array, labels: Array, share: Array) -> Gradients:
    height, width = labels.shape
    maps = (inputs, labels, share)
    bits = number_bits(labels.shape)

    def visit(pairs: Pairs, maps: tuple, totals: tuple) -> tuple:
        together = _together(pairs, maps[1])
        return _where_any(together, functools.partial(teach, pairs, maps, together), totals)

    def teach(pairs: Pairs, maps: tuple, together: Array, totals: tuple) -> tuple:
        inputs, _, share = maps
        to_boundary, to_first, to_second, to_weight = totals
        largest, step = _largest_sample(pairs, inputs.boundary, bits)
        divergence = _divergence(pairs, inputs)
        first, second = pairs.both(share)
        to_crossing, to_divergence, of_weight = attention_gradients(
            largest, divergence, weight, jnp.where(together, first + second, 0)
        )
        to_boundary = _add_crossing_gradient(pairs, to_boundary, step, to_crossing)
        to_first, to_second = _add_divergence_gradient(
            pairs, inputs, (to_first, to_second), to_divergence
        )
        return to_boundary, to_first, to_second, _add(to_weight, 0, of_weight)

    totals = (inputs.boundary, inputs.probabilities, inputs.probabilities, inputs.boundary)
    to_boundary, to_first, to_second, to_weight = visit_pairs(visit, (height, width), maps, totals)
    return Gradients(to_boundary, to_first + to_second, jnp.sum(to_weight))


def _together(pairs: Pairs, labels: Array) -> Array:
    """Mask of the pairs whose two pixels lie in the same region."""
    first, second = pairs.both(labels)
    return pairs.exist & (first == second)


def _where_any(pairs: Array, visit: Callable[[Any], Any], totals: Any) -> Any:
    """Return `visit(totals)` if the mask of any image of a batch has a pair; else `totals`."""
    return jax.lax.cond(_anywhere(pairs), visit, lambda totals: totals, totals)


@jax.custom_batching.custom_vmap
def _anywhere(mask: Array) -> Array:
    """Whether any entry of the mask is set; a batch of images gets one answer for all of them."""
    return jnp.any(mask)


@_anywhere.def_vmap
def _anywhere_in_batch(size: Any, is_batched: list[bool], mask: Array) -> tuple[Array, bool]:
    del size, is_batched  # the batch size may be symbolic when a program is exported
    return _anywhere(mask), False


def _crossing(pairs: Pairs, boundary: Array) -> Array:
    """D of the pairs (Eq. 1)."""
    shifts, fractions = pairs.samples()

    def keep_larger(t: Array, largest: Array) -> Array:
        return jnp.maximum(largest, _interpolate(pairs, boundary, shifts[t], fractions[t]))

    return _repeat(pairs.rows + 1, keep_larger, jnp.zeros(pairs.length, jnp.float32))


def _interpolate(pairs: Pairs, boundary: Array, shift: Array, fraction: Array) -> Array:
    near, far = pairs.window(boundary, shift), pairs.window(boundary, shift + 1)
    return near + fraction * (far - near)


def _largest_sample(pairs: Pairs, boundary: Array, bits: int) -> tuple[Array, Array]:
    """D of the pairs, and the number of the first sample with that value.

    First means first from the pixel of smaller index.
    """
    shifts, fractions = pairs.samples()

    def keep_larger(t: Array, largest: Array) -> Array:
        value = _interpolate(pairs, boundary, shifts[t], fractions[t])
        return jnp.maximum(largest, pack_sample(value, pairs.first_is_smaller, t, bits))

    packed = _repeat(pairs.rows + 1, keep_larger, jnp.zeros(pairs.length, jnp.int32))
    return unpack_sample(packed, pairs.first_is_smaller, bits)


def _divergence(pairs: Pairs, inputs: Inputs) -> Array:
    """E of the pairs (Eq. 2), summed from terms that are exactly 0 where two pixels agree."""

    def add_category(k: Array, total: Array) -> Array:
        p, q = pairs.both_of_row(inputs.probabilities, k)
        log_p, log_q = _log_ratios(pairs, inputs, k)
        return total + (p * log_p + q * log_q)

    start = jnp.zeros(pairs.length, jnp.float32)
    total = _repeat(inputs.probabilities.shape[0], add_category, start)
    return jnp.clip(HALF_NAT * total, 0, 1)


def _log_ratios(pairs: Pairs, inputs: Inputs, k: Array) -> tuple[Array, Array]:
    """ln(p / u) and ln(q / u), u = (p + q) / 2, for the probabilities of category k."""
    log_p, log_q = pairs.both_of_row(inputs.logs, k)
    log_u = log_mean(*pairs.both_of_row(inputs.probabilities, k))
    return log_p - log_u, log_q - log_u


def _add_crossing_gradient(pairs: Pairs, total: Array, step: Array, gradient: Array) -> Array:
    """Add the gradient of each pair's largest sample, number `step`, to the pixels around it."""
    shifts, fractions = pairs.samples()
    # This window is one entry longer: its pixel i is the near pixel of pair i and the far pixel of
    # pair i - 1.
    near_step, far_step = jnp.pad(step, (0, 1)), jnp.pad(step, (1, 0))
    near_gradient, far_gradient = jnp.pad(gradient, (0, 1)), jnp.pad(gradient, (1, 0))

    def add_sample(t: Array, total: Array) -> Array:
        near = jnp.where(near_step == t, (1 - fractions[t]) * near_gradient, 0)
        far = jnp.where(far_step == t, fractions[t] * far_gradient, 0)
        return _add(total, shifts[t], near + far)

    return _repeat(pairs.rows + 1, add_sample, total)


def _add_divergence_gradient(
    pairs: Pairs, inputs: Inputs, totals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """Add the gradient of each pair's divergence to that of its two pixels' probabilities.

    First and second pixels have separate totals, because only then does XLA update both in place.
    """

    def add_category(k: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        to_first, to_second = totals
        log_p, log_q = _log_ratios(pairs, inputs, k)
        to_first = _add_to_row(to_first, k, jnp.int32(0), gradient * log_p)
        to_second = _add_to_row(to_second, k, pairs.shift, gradient * log_q)
        return to_first, to_second

    gradient = HALF_NAT * gradient
    return _repeat(inputs.probabilities.shape[0], add_category, totals)


def _repeat(count: Array | int, body: Callable[[Array, Any], Any], start: Any) -> Any:
    """Call `totals = body(i, totals)` for i below `count`; i has 32 bits, as shifts have."""
    return jax.lax.fori_loop(jnp.int32(0), jnp.asarray(count, jnp.int32), body, start)


def _add(flat: Array, shift: Array | int, values: Array) -> Array:
    window = jax.lax.dynamic_slice(flat, (shift,), values.shape)
    return jax.lax.dynamic_update_slice(flat, window + values, (shift,))


def _add_to_row(flat: Array, row: Array, shift: Array, values: Array) -> Array:
    window = jax.lax.dynamic_slice(flat, (row, shift), (1, values.shape[0]))
    return jax.lax.dynamic_update_slice(flat, window + values[None], (row, shift))


WINDOWS = Schedule(_pointers, _sum_together, _gradients)
