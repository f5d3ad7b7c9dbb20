"""The schedule for GPUs: all pairs of pixels d rows apart at once, for one d after another.

The table of such pairs has an entry (y, a, b) for the pixels (y, a) and (y + d, b). A pair counts
where |b - a| <= d; the others are more columns than rows apart, and count in the transposed view of
the grid. For each d, D is one reduction over the samples of the segments and E one over the
categories; the values gathered at the two ends of the pairs are reductions over b and over a.
Neighbouring row offsets share a compiled loop, so that a program has few loop bodies and few kernel
launches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ranet_jax.ops.schedules.pairs import row_buckets
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


@dataclass(frozen=True)
class Plane:
    """The pairs of pixels `rows` rows apart in one view of a grid: a table [height, w, w].

    Maps of the view are padded at the bottom, so that they have `height` rows from row `rows` on.
    `first_is_smaller` tells whether the first pixels have the smaller index in the original grid.
    """

    rows: Int[Array, ""]
    height: int
    max_rows: int
    exist: Bool[Array, "height w w"]
    first_is_smaller: Bool[Array, "1 w w"]

    def both(self, grid: Array) -> tuple[Array, Array]:
        """Values [..., height, w, 1] and [..., height, 1, w] of the first and second pixels."""
        second = jax.lax.dynamic_slice_in_dim(grid, self.rows, self.height, axis=grid.ndim - 2)
        return grid[..., : self.height, :, None], second[..., :, None, :]

    def gather(
        self, total: Array, first: Array, second: Array, combine: Callable[[Array, Array], Array]
    ) -> Array:
        """Combine the contributions to the first and second pixels with the total of a map.

        Each contribution has the shape [..., height, w].
        """
        axis = total.ndim - 2
        total = total.at[..., : self.height, :].set(combine(total[..., : self.height, :], first))
        there = jax.lax.dynamic_slice_in_dim(total, self.rows, self.height, axis)
        return jax.lax.dynamic_update_slice_in_dim(total, combine(there, second), self.rows, axis)


Visit = Callable[[Plane, Any, Any], Any]


def _visit_planes(
    visit: Visit,
    shape: tuple[int, ...],
    maps: Any,
    totals: Any,
    combine: Callable[[Array, Array], Array] = jnp.add,
    neutral: int = 0,
) -> Any:
    """Gather `visit(plane, maps, totals)` over all pairs of pixels of an h x w grid.

    `maps` and `totals` are trees of arrays [..., h, w]; only the shapes and dtypes of `totals` are
    used.
    """
    gathered = _visit_view(visit, shape, False, maps, totals, neutral)
    maps, totals = _transpose((maps, totals))
    others = _visit_view(visit, shape[::-1], True, maps, totals, neutral)
    return jax.tree.map(combine, gathered, _transpose(others))


def _transpose(tree: Any) -> Any:
    return jax.tree.map(lambda grid: grid.mT, tree)


def _visit_view(
    visit: Visit,
    shape: tuple[int, ...],
    transposed: bool,
    maps: Any,
    totals: Any,
    neutral: int,
) -> Any:
    height, width = shape
    loops = row_buckets(height)
    padding = [(0, max(map(len, loops), default=0)), (0, 0)]

    def pad(grid: Array) -> Array:
        return jnp.pad(grid, [(0, 0)] * (grid.ndim - 2) + padding)

    maps = jax.tree.map(pad, maps)
    totals = jax.tree.map(lambda total: jnp.full_like(pad(total), neutral), totals)
    column = jnp.arange(width, dtype=jnp.int32)
    aside = column[None, None, :] - column[None, :, None]
    for offsets in loops:
        rows = height - offsets[0]
        row = jnp.arange(rows, dtype=jnp.int32)[:, None, None]

        def visit_rows(totals: Any, d: Array, row: Array = row, last: int = offsets[-1]) -> Any:
            within = jnp.abs(aside) < d if transposed else jnp.abs(aside) <= d
            first_is_smaller = (aside >= 0) | (not transposed)
            plane = Plane(d, len(row), last, (row < height - d) & within, first_is_smaller)
            return visit(plane, maps, totals), None

        totals, _ = jax.lax.scan(visit_rows, totals, jnp.array(offsets, jnp.int32))
    return jax.tree.map(lambda total: total[..., :height, :], totals)


def _pointers(inputs: Inputs, weight: Array, threshold: Array) -> Array:
    height, width = inputs.boundary.shape
    count = height * width
    numbers = jnp.arange(count, dtype=jnp.int32).reshape(height, width)

    def visit(plane: Plane, maps: tuple[Inputs, Array], pointers: Array) -> Array:
        inputs, numbers = maps
        linked = plane.exist & (_filtered_attention(plane, inputs, weight) > threshold)
        first, second = plane.both(numbers)
        to_first = jnp.min(jnp.where(linked, second, count), axis=2)
        to_second = jnp.min(jnp.where(linked, first, count), axis=1)
        return plane.gather(pointers, to_first, to_second, jnp.minimum)

    return _visit_planes(
        visit, (height, width), (inputs, numbers), numbers, jnp.minimum, neutral=count
    )


def _sum_together(inputs: Inputs, weight: Array, labels: Array) -> Array:
    def visit(plane: Plane, maps: tuple[Inputs, Array], total: Array) -> Array:
        inputs, labels = maps
        attention = _filtered_attention(plane, inputs, weight)
        attention = jnp.where(_together(plane, labels), attention, 0)
        return plane.gather(total, attention.sum(2), attention.sum(1), jnp.add)

    return _visit_planes(visit, labels.shape, (inputs, labels), inputs.boundary)


def _gradients(inputs: Inputs, weight: Array, labels: Array, share: Array) -> Gradients:
    bits = number_bits(labels.shape)

    def visit(plane: Plane, maps: tuple[Inputs, Array, Array], totals: Any) -> Any:
        inputs, labels, share = maps
        to_boundary, to_probabilities, to_weight = totals
        largest, step = _largest_sample(plane, inputs.boundary, bits)
        divergence = _divergence(plane, inputs)
        first, second = plane.both(share)
        to_crossing, to_divergence, of_weight = attention_gradients(
            largest, divergence, weight, jnp.where(_together(plane, labels), first + second, 0)
        )
        to_weight = to_weight.at[: plane.height].add(of_weight.sum(2))
        to_boundary = _add_crossing_gradient(plane, to_boundary, step, to_crossing)
        to_first, to_second = _divergence_gradients(plane, inputs, to_divergence)
        to_probabilities = plane.gather(to_probabilities, to_first, to_second, jnp.add)
        return to_boundary, to_probabilities, to_weight

    totals = (inputs.boundary, inputs.probabilities, inputs.boundary)
    to_boundary, to_probabilities, to_weight = _visit_planes(
        visit, labels.shape, (inputs, labels, share), totals
    )
    return Gradients(to_boundary, to_probabilities, jnp.sum(to_weight))


def _filtered_attention(plane: Plane, inputs: Inputs, weight: Array) -> Array:
    """F^g of the pairs (Eqs. 1-4)."""
    crossing, divergence = _crossing(plane, inputs.boundary), _divergence(plane, inputs)
    return filtered_attention(crossing, divergence, weight)


def _together(plane: Plane, labels: Array) -> Array:
    """Mask of the pairs whose two pixels lie in the same region."""
    first, second = plane.both(labels)
    return plane.exist & (first == second)


def _samples(plane: Plane, width: int, t: Array) -> tuple[Array, Array]:
    """The pixel before sample t of each segment of the table, and the fraction to the next pixel.

    Pixels are numbered over the padded map. A segment repeats its last sample for larger t.
    """
    ahead = (1,) * (t.ndim - 3)
    row = jnp.arange(plane.height, dtype=jnp.int32).reshape(*ahead, -1, 1, 1)
    first = jnp.arange(width, dtype=jnp.int32).reshape(*ahead, 1, -1, 1)
    second = first.mT
    t = jnp.minimum(t, plane.rows)
    moved = t * (second - first)
    whole = jnp.floor_divide(moved, plane.rows)
    fraction = (moved - whole * plane.rows).astype(jnp.float32) / plane.rows.astype(jnp.float32)
    return (row + t) * width + jnp.clip(first + whole, 0, width - 1), fraction


def _interpolate(plane: Plane, boundary: Array, t: Array) -> Array:
    near, fraction = _samples(plane, boundary.shape[1], t)
    flat = boundary.reshape(-1)
    before = _take(flat, near)
    return before + fraction * (_take(flat, near + 1) - before)


@jax.custom_batching.custom_vmap
def _take(flat: Array, places: Array) -> Array:
    """Return the entries at the given places. The maps of a batch are laid end to end.

    If the maps were side by side, XLA would gather rows with one entry per image, and keep a table
    of all samples in order to transpose it.
    """
    return flat.at[places].get(mode="promise_in_bounds")


@_take.def_vmap
def _take_in_batch(
    size: Any, is_batched: list[bool], flat: Array, places: Array
) -> tuple[Array, bool]:
    flat, places = _with_batch(size, is_batched, (flat, places))
    return _take(flat.reshape(-1), _end_to_end(flat, places)), True


@jax.custom_batching.custom_vmap
def _add_at(flat: Array, places: Array, values: Array) -> Array:
    """Add values to entries. The maps of a batch are laid end to end, as in `_take`."""
    return flat.at[places].add(values, mode="promise_in_bounds")


@_add_at.def_vmap
def _add_at_in_batch(
    size: Any, is_batched: list[bool], flat: Array, places: Array, values: Array
) -> tuple[Array, bool]:
    flat, places, values = _with_batch(size, is_batched, (flat, places, values))
    added = _add_at(flat.reshape(-1), _end_to_end(flat, places), values)
    return added.reshape(flat.shape), True


def _with_batch(size: Any, is_batched: list[bool], arrays: tuple[Array, ...]) -> Iterator[Array]:
    for array, batched in zip(arrays, is_batched, strict=True):
        yield array if batched else jnp.broadcast_to(array, (size, *array.shape))


def _end_to_end(flat: Array, places: Array) -> Array:
    """Convert places in each map of a batch to places in the maps laid end to end."""
    size, length = flat.shape
    start = length * jnp.arange(size, dtype=jnp.int32)
    return places + start.reshape(size, *[1] * (places.ndim - 1))


def _all_samples(plane: Plane) -> Array:
    return jnp.arange(plane.max_rows + 1, dtype=jnp.int32)[:, None, None, None]


def _crossing(plane: Plane, boundary: Array) -> Array:
    """D of the pairs (Eq. 1)."""
    return jnp.max(_interpolate(plane, boundary, _all_samples(plane)), axis=0)


def _largest_sample(plane: Plane, boundary: Array, bits: int) -> tuple[Array, Array]:
    """D of the pairs, and the number of the first sample with that value.

    First means first from the pixel of smaller index.
    """
    t = _all_samples(plane)
    values, number = _interpolate(plane, boundary, t), jnp.minimum(t, plane.rows)
    packed = jnp.max(pack_sample(values, plane.first_is_smaller[None], number, bits), axis=0)
    return unpack_sample(packed, plane.first_is_smaller, bits)


def _add_crossing_gradient(plane: Plane, total: Array, step: Array, gradient: Array) -> Array:
    """Add the gradient of each pair's largest sample, number `step`, to the pixels around it."""
    near, fraction = _samples(plane, total.shape[1], step)
    flat = _add_at(total.reshape(-1), near, (1 - fraction) * gradient)
    return _add_at(flat, near + 1, fraction * gradient).reshape(total.shape)


def _divergence(plane: Plane, inputs: Inputs) -> Array:
    """E of the pairs (Eq. 2), summed from terms that are exactly 0 where two pixels agree."""
    p, q = plane.both(inputs.probabilities)
    log_p, log_q = plane.both(inputs.logs)
    log_u = log_mean(p, q)
    return jnp.clip(HALF_NAT * jnp.sum(p * (log_p - log_u) + q * (log_q - log_u), axis=0), 0, 1)


def _divergence_gradients(plane: Plane, inputs: Inputs, gradient: Array) -> tuple[Array, Array]:
    """Gradients of all pairs' divergence with respect to the probabilities of their two pixels.

    The part of the second pixels uses the transposed layout. With one layout for both parts, XLA
    would keep their logarithms, one table for each category.
    """
    gradient = HALF_NAT * gradient
    p, q = plane.both(inputs.probabilities)
    log_p, log_q = plane.both(inputs.logs)
    to_first = jnp.sum(gradient[None] * (log_p - log_mean(p, q)), axis=-1)
    to_second = jnp.sum(gradient.mT[None] * (log_q.mT - log_mean(p.mT, q.mT)), axis=-1)
    return to_first, to_second


PLANES = Schedule(_pointers, _sum_together, _gradients)
