"""The schedule for TPUs: a Pallas kernel that keeps the pairs of one row offset on the chip.

One run of the kernel takes the pairs (y, x), (y + d, x + e) of one view of the grid (`planes` has
the two views) for one d: it sums E for all e over the categories, which it fetches one by one, and
for each e walks the samples of the segments and uses up the attention. Nothing of a pair leaves
the chip.

A TPU computes on registers of 8 x 128 numbers. The windows of `height - d` rows lie in them as 8
strips of equally many rows, one below the other in the map:

    [q, s, x]  holds  map[s * strip + q, x]

so that d rows on is d further along q, whatever d is, and e columns on is a rotation along x. The
strips overlap by d rows. Offsets whose windows have strips of the same length share a call.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from ranet_jax.ops.schedules.schedule import (
    HALF_NAT,
    SMALLEST,
    TINY,
    Gradients,
    Inputs,
    Schedule,
    filter_attention,
    number_bits,
    pack_sample,
    unpack_sample,
)

STRIPS, LANES = 8, 128
# Calls of a kernel for each view of a grid; with more of them, strips have fewer rows too many.
MAX_CALLS = 4
# Samples of a segment that are under way at once.
GROUP = 4
# What a kernel may use of a chip's fast memory, 128 MiB from the v5e on.
FAST_MEMORY = 100 * 2**20


@dataclass(frozen=True)
class Call:
    """The row offsets of one view that share a call of a kernel, and how maps lie in it.

    Attributes:
      height: rows of the grid in this view.
      width: columns of the grid in this view.
      transposed: whether pairs as far apart in rows as in columns count in the other view.
      offsets: the row offsets d.
      strip: rows of each strip of a window.
    """

    height: int
    width: int
    transposed: bool
    offsets: range
    strip: int

    @property
    def rows(self) -> int:
        """Rows of each strip of a map."""
        return self.strip + self.offsets[-1]

    @property
    def lanes(self) -> int:
        """Columns of a map, padding included."""
        return -(-self.width // LANES) * LANES

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """A map's shape in the kernel."""
        return self.rows, STRIPS, self.lanes

    @property
    def table_shape(self) -> tuple[int, int, int, int]:
        """Shape of a number for each pair of the largest offset: by e, then as a window."""
        return 2 * self.offsets[-1] + 1, self.strip, STRIPS, self.lanes

    def lay_out(self, grid: Array) -> Array:
        """A map [..., h, w] in strips [..., rows, 8, lanes], with zeros beyond its edges."""
        below = (STRIPS - 1) * self.strip + self.rows - self.height
        padding = [(0, 0)] * (grid.ndim - 2) + [(0, below), (0, self.lanes - self.width)]
        padded = jnp.pad(grid, padding)
        strips = [
            jax.lax.slice_in_dim(padded, start, start + self.rows, axis=grid.ndim - 2)
            for start in range(0, STRIPS * self.strip, self.strip)
        ]
        return jnp.stack(strips, axis=-2)

    def fold(self, strips: Array, combine: Callable[[Array, Array], Array], neutral: int) -> Array:
        """Join what the strips [..., rows, 8, lanes] gathered for each pixel [..., h, w]."""
        axis, length = strips.ndim - 3, (STRIPS - 1) * self.strip + self.rows
        total = None
        for strip in range(STRIPS):
            start = strip * self.strip
            padding = [(0, 0)] * axis + [(start, length - start - self.rows), (0, 0)]
            rows = jnp.pad(strips[..., strip, :], padding, constant_values=neutral)
            total = rows if total is None else combine(total, rows)
        assert total is not None
        return total[..., : self.height, : self.width]


def _calls(shape: tuple[int, ...], transposed: bool) -> Iterator[Call]:
    height, width = shape
    longest = -(-(height - 1) // STRIPS)
    step = max(-(-longest // MAX_CALLS), 1)
    for strip in range(longest, 0, -step):
        first = max(height - STRIPS * strip, 1)
        last = min(height - STRIPS * max(strip - step, 0) - 1, height - 1)
        yield Call(height, width, transposed, range(first, last + 1), strip)


@dataclass(frozen=True)
class Offset:
    """One row offset of a call, within the kernel."""

    call: Call
    rows: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """A window's shape."""
        return self.call.strip, STRIPS, self.call.lanes

    def window(self, strips: Any) -> Array:
        """What a map [rows, 8, lanes] has at the first pixels."""
        return strips[pl.ds(0, self.call.strip)]

    def across(self, strips: Any, e: Array) -> Array:
        """What it has at the second pixels."""
        return self.rotate(strips[pl.ds(self.rows, self.call.strip)], e)

    def rotate(self, values: Array, columns: Array) -> Array:
        """Bring what is `columns` columns further on to each pixel."""
        shift = jnp.where(columns > 0, self.call.lanes - columns, -columns)
        return pltpu.roll(values, shift, 2)

    def gather(
        self,
        total: Any,
        e: Array,
        first: Array,
        second: Array,
        combine: Callable[[Array, Array], Array],
    ) -> None:
        """Join what the first and the second pixels get to a map's total."""
        there = pl.ds(self.rows, self.call.strip)
        total[pl.ds(0, self.call.strip)] = combine(self.window(total), first)
        total[there] = combine(total[there], self.rotate(second, -e))

    def exist(self, e: Array) -> Array:
        """Which entries of a window are pairs."""
        row, strip, column = (
            jax.lax.broadcasted_iota(jnp.int32, self.shape, axis) for axis in range(3)
        )
        row += strip * self.call.strip
        inside = (column < self.call.width - jnp.maximum(e, 0)) & (column + e >= 0)
        return inside & (row < self.call.height - self.rows)

    def together(self, labels: Any, e: Array) -> Array:
        """Which pairs lie within one region."""
        return self.exist(e) & (self.window(labels) == self.across(labels, e))

    def for_each_column(self, visit: Callable[[Array, Array], None]) -> None:
        """Call `visit(place, e)` for every column offset of this view and its place in tables."""
        furthest = self.rows - int(self.call.transposed)

        def visit_one(place: Array, carry: None) -> None:
            visit(place, place - furthest)
            return carry

        jax.lax.fori_loop(jnp.int32(0), 2 * furthest + 1, visit_one, None)

    def walk(self, e: Array, visit: Callable[["Sample", Any], Any], start: Any) -> Any:
        """Go through the samples of the segments: `carry = visit(sample, carry)`.

        Samples go in groups, so that one is made while another waits for its rotation.
        """
        aside, unit = jnp.abs(e), 1 / self.rows.astype(jnp.float32)

        def visit_one(t: Array, carry: tuple[Array, Array, Any]) -> tuple[Array, Array, Any]:
            columns, rest, inner = carry  # t * |e| = columns * rows + rest, 0 <= rest < rows
            inner = visit(Sample(t, e < 0, columns, rest.astype(jnp.float32) * unit), inner)
            rest += aside
            over = rest >= self.rows
            return (
                jnp.where(over, columns + 1, columns),
                jnp.where(over, rest - self.rows, rest),
                inner,
            )

        def visit_group(group: Array, carry: Any) -> Any:
            for member in range(GROUP):
                carry = visit_one(group * GROUP + member, carry)
            return carry

        zero = jnp.int32(0)
        groups = jax.lax.shift_right_logical(self.rows + 1, jnp.int32(GROUP.bit_length() - 1))
        carry = jax.lax.fori_loop(zero, groups, visit_group, (zero, zero, start))
        *_, result = jax.lax.fori_loop(groups * GROUP, self.rows + 1, visit_one, carry)
        return result

    def interpolate(self, rooms: "Rooms", sample: "Sample") -> Array:
        """The boundary scores at a sample of all segments."""
        rows = pl.ds(sample.t, self.call.strip)
        slopes = rooms.slopes.at[sample.backwards.astype(jnp.int32)]
        value = rooms.boundary[rows] + sample.fraction * slopes[rows]
        return pltpu.roll(value, self._shift(sample, forth=True), 2)

    def add_at(self, total: Any, sample: "Sample", values: Array) -> None:
        """Add to the two pixels that a sample lies between what all segments give to it."""
        rows = pl.ds(sample.t, self.call.strip)
        far = sample.fraction * values
        one = jnp.where(sample.backwards, self.call.lanes - 1, 1)
        values = (values - far) + pltpu.roll(far, one, 2)
        total[rows] += pltpu.roll(values, self._shift(sample, forth=False), 2)

    def _shift(self, sample: "Sample", forth: bool) -> Array:
        """The rotation that brings the pixel beside a sample to the first pixel, or back."""
        to_the_left = sample.backwards != forth
        turned = to_the_left & (sample.columns > 0)
        return jnp.where(turned, self.call.lanes - sample.columns, sample.columns)


@dataclass(frozen=True)
class Sample:
    """Sample t of the segments at one offset: t rows, `columns` columns and a fraction of one on.

    Columns are counted backwards where e < 0.
    """

    t: Array
    backwards: Array
    columns: Array
    fraction: Array


@dataclass(frozen=True)
class Fetcher:
    """Fetches the map of one category after another, and takes its logarithms.

    Attributes:
      categories: all maps [c, rows, 8, lanes], in the chip's large memory.
      maps: room for two of them in the fast memory.
      logs: room for the logarithms of one.
      semaphores: one for each of the two.
    """

    categories: Any
    maps: Any
    logs: Any
    semaphores: Any

    def for_each(self, visit: Callable[[Array, Any], None]) -> None:
        """Call `visit(number, map)` for every category, while the next map is on its way."""
        count = self.categories.shape[0]
        zero = jnp.int32(0)
        self._copy(zero).start()

        def visit_one(number: Array, carry: None) -> None:
            @pl.when(number + 1 < count)
            def _() -> None:
                self._copy(number + 1).start()

            self._copy(number).wait()
            category = self.maps.at[jax.lax.rem(number, jnp.int32(2))]
            p = category[...]
            positive = p >= SMALLEST
            self.logs[...] = jnp.where(positive, jnp.log(jnp.where(positive, p, 1.0)), 0.0)
            visit(number, category)
            return carry

        jax.lax.fori_loop(zero, jnp.int32(count), visit_one, None)

    def _copy(self, number: Array) -> Any:
        slot = jax.lax.rem(number, jnp.int32(2))
        return pltpu.make_async_copy(
            self.categories.at[number], self.maps.at[slot], self.semaphores.at[slot]
        )


@dataclass(frozen=True)
class Rooms:
    """What a pass may use in the kernel: references to the chip's memories.

    Attributes:
      scalars: W^g and tau.
      boundary: the map of the boundary [rows, 8, lanes].
      slopes: what it gains to the next column and to the one before [2, rows, 8, lanes].
      maps: the pass's other maps [rows, 8, lanes].
      totals: what it gathers, likewise.
      fetcher: the categories.
      table: a number for every pair of the row offset.
      gradient: the backward pass's gradient of the categories: all of them in the large memory,
        room for one map in the fast memory, and a semaphore; nothing forwards.
    """

    scalars: Any
    boundary: Any
    slopes: Any
    maps: Sequence[Any]
    totals: Sequence[Any]
    fetcher: Fetcher
    table: Any
    gradient: Sequence[Any]


Pass = Callable[[Offset, Rooms], None]


@dataclass(frozen=True)
class Total:
    """How a pass gathers a map: from `neutral` on, by `combine`."""

    dtype: Any
    neutral: int
    combine: Callable[[Array, Array], Array]


def _visit(
    interpret: bool,
    visit: Pass,
    scalars: Array,
    maps: Sequence[Array],
    categories: Array,
    totals: Sequence[Total],
    gradient: bool = False,
) -> list[Array]:
    """Gather maps [h, w] over all pairs, and with `gradient` one of the categories besides.

    The first of `maps` is that of the boundary.
    """
    kinds = [*totals, *[Total(jnp.float32, 0, jnp.add)] * gradient]
    shape = maps[0].shape
    gathered = [jnp.full(shape, kind.neutral, kind.dtype) for kind in totals]
    gathered += [jnp.zeros_like(categories)] * gradient
    for transposed in (False, True):
        turned = [grid.mT if transposed else grid for grid in (*maps, categories)]
        for call in _calls(turned[0].shape, transposed):
            found = _run(interpret, call, visit, scalars, turned[:-1], turned[-1], totals, gradient)
            for number, (kind, strips) in enumerate(zip(kinds, found, strict=True)):
                grid = call.fold(strips, kind.combine, kind.neutral)
                grid = grid.mT if transposed else grid
                gathered[number] = kind.combine(gathered[number], grid)
    return gathered


def _run(
    interpret: bool,
    call: Call,
    visit: Pass,
    scalars: Array,
    maps: Sequence[Array],
    categories: Array,
    totals: Sequence[Total],
    gradient: bool,
) -> Sequence[Array]:
    """One call of the kernel: what the strips of a map gather, each [rows, 8, lanes]."""
    count = len(categories)

    def kernel(*refs: Any) -> None:
        remaining = iter(refs)

        def take(count: int) -> list[Any]:
            return list(itertools.islice(remaining, count))

        scalars, boundary, slopes, *others = take(2 + len(maps))
        (categories,), gathered, gradients = take(1), take(len(totals)), take(int(gradient))
        table, fetched, logs, semaphores = take(4)

        @pl.when(pl.program_id(0) == 0)
        def _() -> None:
            for total, kind in zip(gathered, totals, strict=True):
                total[...] = jnp.full(total.shape, kind.neutral, kind.dtype)

        offset = Offset(call, pl.program_id(0) + call.offsets[0])
        fetcher = Fetcher(categories, fetched, logs, semaphores)
        of_categories = (*gradients, *remaining)
        rooms = Rooms(scalars, boundary, slopes, others, gathered, fetcher, table, of_categories)
        _sum_divergence(offset, rooms)
        visit(offset, rooms)

    in_fast = pl.BlockSpec(call.map_shape, lambda _: (0, 0, 0))
    two_in_fast = pl.BlockSpec((2, *call.map_shape), lambda _: (0, 0, 0, 0))
    in_large = pl.BlockSpec(memory_space=pl.ANY)
    one_map = pltpu.VMEM(call.map_shape, jnp.float32)
    scratch = [
        pltpu.VMEM(call.table_shape, jnp.float32),
        pltpu.VMEM((2, *call.map_shape), jnp.float32),
        one_map,
        pltpu.SemaphoreType.DMA((2,)),
    ]
    outputs = [jax.ShapeDtypeStruct(call.map_shape, kind.dtype) for kind in totals]
    if gradient:
        scratch += [one_map, pltpu.SemaphoreType.DMA(())]
        outputs.append(jax.ShapeDtypeStruct((count, *call.map_shape), jnp.float32))

    run = pl.pallas_call(
        kernel,
        out_shape=outputs,
        grid=(len(call.offsets),),
        in_specs=[
            pl.BlockSpec(memory_space=pltpu.SMEM),
            in_fast,
            two_in_fast,
            *[in_fast] * (len(maps) - 1),
            in_large,
        ],
        out_specs=[*[in_fast] * len(totals), *[in_large] * gradient],
        scratch_shapes=scratch,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=FAST_MEMORY),
        interpret=interpret,
    )
    boundary, *others = map(call.lay_out, maps)
    slopes = jnp.stack([jnp.roll(boundary, step, axis=2) - boundary for step in (-1, 1)])
    return run(scalars, boundary, slopes, *others, call.lay_out(categories))


def _sum_divergence(offset: Offset, rooms: Rooms) -> None:
    """Put the sum of p ln(p / u) + q ln(q / u) over the categories into the table."""
    logs, table = rooms.fetcher.logs, rooms.table

    def clear(place: Array, e: Array) -> None:
        table[place] = jnp.zeros(table.shape[1:], jnp.float32)

    def add_category(number: Array, category: Any) -> None:
        p, log_p = offset.window(category), offset.window(logs)

        def add(place: Array, e: Array) -> None:
            q, log_q = offset.across(category, e), offset.across(logs, e)
            log_u = _log_mean(p, q)
            table[place] += p * (log_p - log_u) + q * (log_q - log_u)

        offset.for_each_column(add)

    offset.for_each_column(clear)
    rooms.fetcher.for_each(add_category)


def _log_mean(p: Array, q: Array) -> Array:
    return jnp.log(jnp.maximum((p + q) / 2, TINY))


def _divergence(rooms: Rooms, place: Array) -> Array:
    """E of the pairs of one column offset (Eq. 2)."""
    return jnp.clip(HALF_NAT * rooms.table[place], 0, 1)


def _filtered_attention(offset: Offset, rooms: Rooms, place: Array, e: Array) -> Array:
    """F^g of the pairs of one column offset (Eqs. 1-4)."""

    def keep_larger(sample: Sample, largest: Array) -> Array:
        return jnp.maximum(largest, offset.interpolate(rooms, sample))

    start = jnp.zeros(offset.shape, jnp.float32)
    uncrossed = 1 - offset.walk(e, keep_larger, start)
    return filter_attention(uncrossed * (1 - _divergence(rooms, place)), rooms.scalars[0])


def _pointers(interpret: bool, inputs: Inputs, weight: Array, threshold: Array) -> Array:
    count = inputs.boundary.size
    numbers = jnp.arange(count, dtype=jnp.int32).reshape(inputs.boundary.shape)

    def visit(offset: Offset, rooms: Rooms) -> None:
        def link(place: Array, e: Array) -> None:
            attention = _filtered_attention(offset, rooms, place, e)
            linked = offset.exist(e) & (attention > rooms.scalars[1])
            first, second = offset.window(rooms.maps[0]), offset.across(rooms.maps[0], e)
            to_first, to_second = jnp.where(linked, second, count), jnp.where(linked, first, count)
            offset.gather(rooms.totals[0], e, to_first, to_second, jnp.minimum)

        offset.for_each_column(link)

    maps = (inputs.boundary, numbers)
    scalars, totals = jnp.stack([weight, threshold]), [Total(jnp.int32, count, jnp.minimum)]
    return _visit(interpret, visit, scalars, maps, inputs.probabilities, totals)[0]


def _sum_together(interpret: bool, inputs: Inputs, weight: Array, labels: Array) -> Array:
    def visit(offset: Offset, rooms: Rooms) -> None:
        def add(place: Array, e: Array) -> None:
            attention = _filtered_attention(offset, rooms, place, e)
            attention = jnp.where(offset.together(rooms.maps[0], e), attention, 0)
            offset.gather(rooms.totals[0], e, attention, attention, jnp.add)

        offset.for_each_column(add)

    maps = (inputs.boundary, labels)
    totals = [Total(jnp.float32, 0, jnp.add)]
    return _visit(interpret, visit, weight[None], maps, inputs.probabilities, totals)[0]


def _gradients(
    interpret: bool, inputs: Inputs, weight: Array, labels: Array, share: Array
) -> Gradients:
    bits = number_bits(labels.shape)

    def visit(offset: Offset, rooms: Rooms) -> None:
        labels, share = rooms.maps
        to_boundary, to_weight = rooms.totals
        weight = rooms.scalars[0]

        def teach(place: Array, e: Array) -> None:
            first_is_smaller = jnp.logical_or(e >= 0, not offset.call.transposed)

            def keep_larger(sample: Sample, largest: Array) -> Array:
                value = offset.interpolate(rooms, sample)
                return jnp.maximum(largest, pack_sample(value, first_is_smaller, sample.t, bits))

            packed = offset.walk(e, keep_larger, jnp.zeros(offset.shape, jnp.int32))
            largest, step = unpack_sample(packed, first_is_smaller, bits)
            divergence = _divergence(rooms, place)
            attention = (1 - largest) * (1 - divergence)
            filtered = weight * attention
            unclipped = offset.together(labels, e) & (filtered >= 0) & (filtered <= 1)
            both = jnp.where(unclipped, offset.window(share) + offset.across(share, e), 0)
            to_weight[pl.ds(0, offset.call.strip)] += attention * both
            gradient = weight * both
            rooms.table[place] = HALF_NAT * gradient * (largest - 1)
            gradient = gradient * (divergence - 1)

            def spread(sample: Sample, carry: None) -> None:
                offset.add_at(to_boundary, sample, jnp.where(step == sample.t, gradient, 0))
                return carry

            offset.walk(e, spread, None)

        offset.for_each_column(teach)
        _add_divergence_gradient(offset, rooms)

    maps = (inputs.boundary, labels, share)
    totals = [Total(jnp.float32, 0, jnp.add)] * 2
    to_boundary, to_weight, to_probabilities = _visit(
        interpret, visit, weight[None], maps, inputs.probabilities, totals, gradient=True
    )
    return Gradients(to_boundary, to_probabilities, jnp.sum(to_weight))


def _add_divergence_gradient(offset: Offset, rooms: Rooms) -> None:
    """Add what the divergence of each pair, whose gradient the table holds, gains to C."""
    gradients, total, semaphore = rooms.gradient
    logs = rooms.fetcher.logs
    is_first = pl.program_id(0) == 0

    def copy(source: Any, target: Any) -> None:
        transfer = pltpu.make_async_copy(source, target, semaphore)
        transfer.start()
        transfer.wait()

    def teach(number: Array, category: Any) -> None:
        @pl.when(is_first)
        def _() -> None:
            total[...] = jnp.zeros(total.shape, jnp.float32)

        @pl.when(jnp.logical_not(is_first))
        def _() -> None:
            copy(gradients.at[number], total)

        p, log_p = offset.window(category), offset.window(logs)

        def add(place: Array, e: Array) -> None:
            q, log_q = offset.across(category, e), offset.across(logs, e)
            log_u, gradient = _log_mean(p, q), rooms.table[place]
            to_first, to_second = gradient * (log_p - log_u), gradient * (log_q - log_u)
            offset.gather(total, e, to_first, to_second, jnp.add)

        offset.for_each_column(add)
        copy(total, gradients.at[number])

    rooms.fetcher.for_each(teach)


def kernel_schedule(interpret: bool) -> Schedule:
    """The schedule for TPUs, or with `interpret` the same by Pallas's interpreter, anywhere.

    The images of a batch go one after another.
    """
    passes = (functools.partial(each, interpret) for each in (_pointers, _sum_together, _gradients))
    return Schedule(*map(jax.custom_batching.sequential_vmap, passes))
