"""Every pair of pixels of a grid, visited in groups that share one offset.

The pairs that lie d rows and e columns apart form two windows, one of a map and one of the same map
shifted. Both are contiguous slices, everything computed from them is elementwise, and the segments
between the pixels are sampled at the same fractions. Across four views of the grid, every unordered
pair has an offset with 1 <= d and 0 <= e <= d exactly once:

    view                     offset (rows, columns) in the grid
    as it is                 ( d,  e)   0 <= e <= d
    upside down              (-d,  e)   0 <  e <= d
    transposed               ( e,  d)   0 <= e <  d
    transposed, upside down  ( e, -d)   0 <  e <  d
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Number of row offsets that share one compiled loop, and therefore its window size. It is larger
# where there would otherwise be more loops than MAX_BUCKETS.
BUCKET_ROWS = 8
MAX_BUCKETS = 8


@dataclass(frozen=True)
class Pairs:
    """The pairs of pixels `rows` rows and `columns` columns apart in one view of a grid.

    Maps of the view are flat, row-major and padded at the end. A window has `length` entries. An
    entry is a pair where `exist` is set; elsewhere the second pixel lies outside the grid, or the
    pair counts in another view. `first_is_smaller` tells whether the first pixels have the smaller
    index in the original grid.
    """

    rows: Int[Array, ""]
    columns: Int[Array, ""]
    width: int
    length: int
    max_samples: int
    exist: Bool[Array, " length"]
    first_is_smaller: Bool[Array, ""]

    @property
    def shift(self) -> Int[Array, ""]:
        """Distance in a flat map from the first pixel to the second pixel of each pair."""
        return self.rows * self.width + self.columns

    def window(self, flat: Array, shift: Array | int = 0) -> Array:
        """The entries of a flat map that are `shift` pixels after the first pixels."""
        return jax.lax.dynamic_slice(flat, (shift,), (self.length,))

    def both(self, flat: Array) -> tuple[Array, Array]:
        """The windows of the first and of the second pixels."""
        return self.window(flat), self.window(flat, self.shift)

    def both_of_row(self, flat: Array, row: Array) -> tuple[Array, Array]:
        """The same windows in one row of several flat maps [rows, n]."""
        size = (1, self.length)
        first = jax.lax.dynamic_slice(flat, (row, jnp.int32(0)), size)
        second = jax.lax.dynamic_slice(flat, (row, self.shift), size)
        return first[0], second[0]

    def samples(self) -> tuple[Int[Array, " t"], Float[Array, " t"]]:
        """Where Eq. 1 samples the segments, from the first pixel, t = 0, to the second, t = `rows`.

        A sample lies between the pixel at its shift and the next pixel, at the given fraction of
        the way. There are `max_samples` entries; those past t = `rows` have no meaning.
        """
        t = jnp.arange(self.max_samples, dtype=jnp.int32)
        aside = jax.lax.div(t * self.columns, self.rows)
        rest = t * self.columns - aside * self.rows
        fractions = rest.astype(jnp.float32) / self.rows.astype(jnp.float32)
        return t * self.width + aside, fractions


Visit = Callable[[Pairs, Any, Any], Any]
Combine = Callable[[Array, Array], Array]


def visit_pairs(
    visit: Visit,
    shape: tuple[int, int],
    maps: Any,
    totals: Any,
    combine: Combine = jnp.add,
    neutral: int = 0,
) -> Any:
    """Gather `visit(pairs, maps, totals)` over all pairs of pixels of an h x w grid.

    `visit` gets the flat maps of a view and flat totals, and returns the new totals; it must leave
    entries of the totals that belong to no pair unchanged. Each row offset has separate totals,
    which are combined at the end: a single running sum over the many numbers of a large region
    would lose precision to rounding.

    Args:
      visit: what to do with the pairs of one offset.
      shape: (h, w).
      maps: tree of arrays [..., h, w] to read.
      totals: tree of arrays that gives the shapes [..., h, w] and dtypes of the totals.
      combine: elementwise operation that combines two arrays of totals.
      neutral: initial value of the totals, the neutral element of `combine`.

    Returns:
      The totals, a tree of arrays [..., h, w].
    """
    gathered = jax.tree.map(lambda total: jnp.full(total.shape, neutral, total.dtype), totals)
    views = [(False, False), (False, True)], [(True, False), (True, True)]
    height, width = shape
    if height == width:  # the views of one shape share their compiled loops
        return _visit_views(visit, shape, views[0] + views[1], maps, gathered, combine, neutral)
    gathered = _visit_views(visit, shape, views[0], maps, gathered, combine, neutral)
    maps, gathered = _transpose((maps, gathered))
    gathered = _visit_views(visit, (width, height), views[1], maps, gathered, combine, neutral)
    return _transpose(gathered)


def windows(shape: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """Number and size of the windows that `visit_pairs` goes through.

    Yields:
      (number of windows, entries of each, samples of each entry), for every row offset.
    """
    for height, width in (shape, shape[::-1]):
        for rows in row_buckets(height):
            for d in rows:
                yield 2 * (min(d, width - 1) + 1), _window_length(rows, height, width), d + 1


def _window_length(rows: range, height: int, width: int) -> int:
    """Number of entries in each window of a bucket."""
    return (height - rows[0]) * width


def _transpose(grids: Any) -> Any:
    return jax.tree.map(lambda grid: jnp.swapaxes(grid, -1, -2), grids)


def _visit_views(
    visit: Visit,
    shape: tuple[int, int],
    views: list[tuple[bool, bool]],
    maps: Any,
    gathered: Any,
    combine: Combine,
    neutral: int,
) -> Any:
    """Go through views, each (transposed, upside down), of grids of one shape.

    If all views are transposed, the grids are passed in already transposed.
    """
    height, width = shape
    mixed = len({transposed for transposed, _ in views}) > 1
    buckets = row_buckets(height)
    # The last window of a bucket ends this far beyond the grid.
    padding = max((len(rows) * width for rows in buckets), default=0)

    def visit_view(gathered: Any, view: Array) -> tuple[Any, None]:
        transposed, flipped = view[0], view[1]

        def turn(grid: Array) -> Array:
            return jnp.where(transposed, jnp.swapaxes(grid, -1, -2), grid) if mixed else grid

        def flatten(grid: Array) -> Array:
            grid = turn(grid)
            grid = jnp.where(flipped, jnp.flip(grid, -2), grid)
            flat = grid.reshape(*grid.shape[:-2], height * width)
            return jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, padding)])

        def restore(flat: Array) -> Array:
            grid = flat[..., : height * width].reshape(*flat.shape[:-1], height, width)
            return turn(jnp.where(flipped, jnp.flip(grid, -2), grid))

        def empty(grid: Array) -> Array:
            return jnp.full((*grid.shape[:-2], height * width + padding), neutral, grid.dtype)

        flat_maps = jax.tree.map(flatten, maps)
        for rows in buckets:
            visit_row = _row_visitor(visit, shape, rows, view, flat_maps)

            def add_row(gathered: Any, d: Array, visit_row: Any = visit_row) -> tuple[Any, None]:
                totals = visit_row(d, jax.tree.map(empty, gathered))
                of_row = jax.tree.map(restore, totals)
                return jax.tree.map(combine, gathered, of_row), None

            gathered, _ = jax.lax.scan(add_row, gathered, jnp.array(rows, jnp.int32))
        return gathered, None

    gathered, _ = jax.lax.scan(visit_view, gathered, jnp.array(views))
    return gathered


def _row_visitor(
    visit: Visit, shape: tuple[int, int], rows: range, view: Array, maps: Any
) -> Callable[[Array, Any], Any]:
    """Return a function of a row offset and totals that adds the offset's pairs in one view."""
    height, width = shape
    transposed, flipped = view[0], view[1]
    length, max_samples = _window_length(rows, height, width), rows[-1] + 1
    first = jnp.arange(length, dtype=jnp.int32)
    column = jax.lax.rem(first, jnp.int32(width))

    def visit_row(d: Array, totals: Any) -> Any:
        inside = first < (height - d) * width

        def visit_offset(e: Array, totals: Any) -> Any:
            counted = ((e > 0) | ~flipped) & ((e < d) | ~transposed)
            exist = inside & (column < width - e) & counted
            pairs = Pairs(d, e, width, length, max_samples, exist, transposed | ~flipped)
            return visit(pairs, maps, totals)

        count = jnp.minimum(d, width - 1) + 1
        return jax.lax.fori_loop(jnp.int32(0), count, visit_offset, totals)

    return visit_row


def row_buckets(height: int) -> list[range]:
    """Row offsets 1 ... height - 1 in groups, each with one compiled loop."""
    size = max(BUCKET_ROWS, -(-height // MAX_BUCKETS))
    return [range(d, min(d + size, height)) for d in range(1, height, size)]
