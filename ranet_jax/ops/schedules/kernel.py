"""The schedule for TPUs: a Pallas kernel that keeps the pairs of one row offset on the chip.

One run of the kernel handles the pairs (y, x), (y + d, x + e) of one view of the grid for one d
(`planes` describes the two views). It sums E for all e over the categories, which it fetches one by
one. Then, for each e, it walks the samples of the segments and uses the attention at once. No value
of a single pair leaves the chip. `strips` describes how maps are laid out in registers.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from ranet_jax.ops.schedules.schedule import (
    HALF_NAT,
    Gradients,
    Inputs,
    Schedule,
    attention_gradients,
    filtered_attention,
    log_mean,
    logarithms,
    number_bits,
    pack_sample,
    unpack_sample,
)
from ranet_jax.ops.schedules.strips import Call, Offset, Sample, calls

# How much a kernel may use of a chip's fast memory, which is 128 MiB from the v5e on.
FAST_MEMORY = 100 * 2**20


@dataclass(frozen=True)
class Fetcher:
    """Fetches the map of one category after another, and takes its logarithms.

    Attributes:
      categories: all maps [c, rows, 8, lanes], in the chip's large memory.
      maps: space for two maps in the fast memory.
      logs: space for the logarithms of one map.
      semaphores: one semaphore for each of the two maps.
    """

    categories: Any
    maps: Any
    logs: Any
    semaphores: Any

    def for_each(self, visit: Callable[[Array, Any], None]) -> None:
        """Call `visit(number, map)` for every category, while the next map is being copied."""
        count = self.categories.shape[0]
        zero = jnp.int32(0)
        self._copy(zero).start()

        def visit_one(number: Array, carry: None) -> None:
            @pl.when(number + 1 < count)
            def _() -> None:
                self._copy(number + 1).start()

            self._copy(number).wait()
            category = self.maps.at[jax.lax.rem(number, jnp.int32(2))]
            self.logs[...] = logarithms(category[...])
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
      slopes: the differences from each column of the boundary map to the next and to the previous
        one [2, rows, 8, lanes].
      maps: the pass's other maps [rows, 8, lanes].
      totals: the maps that the pass gathers [rows, 8, lanes].
      fetcher: access to the categories.
      table: a number for every pair of the row offset.
      gradient: for the backward pass, the gradient of the categories: all maps in the large memory,
        space for one map in the fast memory, and a semaphore; empty in the forward passes.
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
    """How a pass gathers a map: it starts from `neutral` and applies `combine`."""

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
    """Gather maps [h, w] over all pairs, and with `gradient` also the gradient of the categories.

    The first of `maps` is the boundary map.
    """
    kinds = [*totals, *[Total(jnp.float32, 0, jnp.add)] * gradient]
    shape = maps[0].shape
    gathered = [jnp.full(shape, kind.neutral, kind.dtype) for kind in totals]
    gathered += [jnp.zeros_like(categories)] * gradient
    for transposed in (False, True):
        turned = [grid.mT if transposed else grid for grid in (*maps, categories)]
        for call in calls(turned[0].shape, transposed):
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
    """Call the kernel once and return the totals in strips, each [rows, 8, lanes]."""
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
    """Write the sum of p ln(p / u) + q ln(q / u) over the categories into the table."""
    logs, table = rooms.fetcher.logs, rooms.table

    def clear(place: Array, e: Array) -> None:
        table[place] = jnp.zeros(table.shape[1:], jnp.float32)

    def add_category(number: Array, category: Any) -> None:
        p, log_p = offset.window(category), offset.window(logs)

        def add(place: Array, e: Array) -> None:
            q, log_q = offset.across(category, e), offset.across(logs, e)
            log_u = log_mean(p, q)
            table[place] += p * (log_p - log_u) + q * (log_q - log_u)

        offset.for_each_column(add)

    offset.for_each_column(clear)
    rooms.fetcher.for_each(add_category)


def _divergence(rooms: Rooms, place: Array) -> Array:
    """E of the pairs of one column offset (Eq. 2)."""
    return jnp.clip(HALF_NAT * rooms.table[place], 0, 1)


def _filtered_attention(offset: Offset, rooms: Rooms, place: Array, e: Array) -> Array:
    """F^g of the pairs of one column offset (Eqs. 1-4)."""

    def keep_larger(sample: Sample, largest: Array) -> Array:
        return jnp.maximum(largest, offset.interpolate(rooms.boundary, rooms.slopes, sample))

    start = jnp.zeros(offset.shape, jnp.float32)
    crossing = offset.walk(e, keep_larger, start)
    return filtered_attention(crossing, _divergence(rooms, place), rooms.scalars[0])


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

        def teach(place: Array, e: Array) -> None:
            first_is_smaller = jnp.logical_or(e >= 0, not offset.call.transposed)

            def keep_larger(sample: Sample, largest: Array) -> Array:
                value = offset.interpolate(rooms.boundary, rooms.slopes, sample)
                return jnp.maximum(largest, pack_sample(value, first_is_smaller, sample.t, bits))

            packed = offset.walk(e, keep_larger, jnp.zeros(offset.shape, jnp.int32))
            largest, step = unpack_sample(packed, first_is_smaller, bits)
            both = offset.window(share) + offset.across(share, e)
            to_crossing, to_divergence, of_weight = attention_gradients(
                largest,
                _divergence(rooms, place),
                rooms.scalars[0],
                jnp.where(offset.together(labels, e), both, 0),
            )
            to_weight[pl.ds(0, offset.call.strip)] += of_weight
            rooms.table[place] = HALF_NAT * to_divergence

            def spread(sample: Sample, carry: None) -> None:
                offset.add_at(to_boundary, sample, jnp.where(step == sample.t, to_crossing, 0))
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
    """Add each pair's share to the gradient of C; the table holds the gradients by divergence."""
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
            log_u, gradient = log_mean(p, q), rooms.table[place]
            to_first, to_second = gradient * (log_p - log_u), gradient * (log_q - log_u)
            offset.gather(total, e, to_first, to_second, jnp.add)

        offset.for_each_column(add)
        copy(total, gradients.at[number])

    rooms.fetcher.for_each(teach)


def kernel_schedule(interpret: bool) -> Schedule:
    """The schedule for TPUs; with `interpret` it runs in Pallas's interpreter on any platform.

    The images of a batch are processed one after another.
    """
    passes = (functools.partial(each, interpret) for each in (_pointers, _sum_together, _gradients))
    return Schedule(*map(jax.custom_batching.sequential_vmap, passes))
