"""How the TPU kernel lays out maps and goes over the pairs of one row offset.

A TPU computes on registers of 8 x 128 numbers. A window of `height - d` rows is stored in them as 8
strips with the same number of rows, which follow one another down the map:

    [q, s, x]  holds  map[s * strip + q, x]

A step of d rows is then a step of d along q, for any d, and a step of e columns is a rotation along
x. The strips overlap by d rows. Offsets whose windows have strips of nearly the same length share a
call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

STRIPS, LANES = 8, 128
# Kernel calls for each view of a grid; with more calls, strips have fewer surplus rows.
MAX_CALLS = 4
# Number of samples of a segment that are processed at once, a power of 2.
GROUP = 4


@dataclass(frozen=True)
class Call:
    """The row offsets of one view that share a kernel call, and the layout of maps in that call.

    Attributes:
      height: rows of the grid in this view.
      width: columns of the grid in this view.
      transposed: whether the view is transposed, which leaves pairs that are as many rows as
        columns apart to the other view.
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
        """Shape of a table with one number per pair of the largest offset: e, then the window."""
        return 2 * self.offsets[-1] + 1, self.strip, STRIPS, self.lanes

    def lay_out(self, grid: Array) -> Array:
        """Lay out a map [..., h, w] in strips [..., rows, 8, lanes], zero beyond its edges."""
        below = (STRIPS - 1) * self.strip + self.rows - self.height
        padding = [(0, 0)] * (grid.ndim - 2) + [(0, below), (0, self.lanes - self.width)]
        padded = jnp.pad(grid, padding)
        strips = [
            jax.lax.slice_in_dim(padded, start, start + self.rows, axis=grid.ndim - 2)
            for start in range(0, STRIPS * self.strip, self.strip)
        ]
        return jnp.stack(strips, axis=-2)

    def fold(self, strips: Array, combine: Callable[[Array, Array], Array], neutral: int) -> Array:
        """Combine what the strips [..., rows, 8, lanes] gathered into one map [..., h, w]."""
        axis, length = strips.ndim - 3, (STRIPS - 1) * self.strip + self.rows
        total = None
        for strip in range(STRIPS):
            start = strip * self.strip
            padding = [(0, 0)] * axis + [(start, length - start - self.rows), (0, 0)]
            rows = jnp.pad(strips[..., strip, :], padding, constant_values=neutral)
            total = rows if total is None else combine(total, rows)
        assert total is not None
        return total[..., : self.height, : self.width]


def calls(shape: tuple[int, ...], transposed: bool) -> Iterator[Call]:
    """The calls that go over all row offsets of one view of a grid (h, w)."""
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
        """Values of a map [rows, 8, lanes] at the first pixels of the pairs."""
        return strips[pl.ds(0, self.call.strip)]

    def across(self, strips: Any, e: Array) -> Array:
        """Values of the map at the second pixels of the pairs."""
        return self.rotate(strips[pl.ds(self.rows, self.call.strip)], e)

    def rotate(self, values: Array, columns: Array) -> Array:
        """Give each pixel the value that lies `columns` columns further on."""
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
        """Combine the contributions to the first and second pixels with the total of a map."""
        there = pl.ds(self.rows, self.call.strip)
        total[pl.ds(0, self.call.strip)] = combine(self.window(total), first)
        total[there] = combine(total[there], self.rotate(second, -e))

    def exist(self, e: Array) -> Array:
        """Mask of the entries of a window that are pairs."""
        row, strip, column = (
            jax.lax.broadcasted_iota(jnp.int32, self.shape, axis) for axis in range(3)
        )
        row += strip * self.call.strip
        inside = (column < self.call.width - jnp.maximum(e, 0)) & (column + e >= 0)
        return inside & (row < self.call.height - self.rows)

    def together(self, labels: Any, e: Array) -> Array:
        """Mask of the pairs whose two pixels lie in the same region."""
        return self.exist(e) & (self.window(labels) == self.across(labels, e))

    def for_each_column(self, visit: Callable[[Array, Array], None]) -> None:
        """Call `visit(place, e)` for every column offset e of this view and its index in tables."""
        furthest = self.rows - int(self.call.transposed)

        def visit_one(place: Array, carry: None) -> None:
            visit(place, place - furthest)
            return carry

        jax.lax.fori_loop(jnp.int32(0), 2 * furthest + 1, visit_one, None)

    def walk(self, e: Array, visit: Callable[["Sample", Any], Any], start: Any) -> Any:
        """Go through the samples of the segments: `carry = visit(sample, carry)`.

        Samples are processed in groups, so that one is computed while another waits for its
        rotation.
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

    def interpolate(self, strips: Any, slopes: Any, sample: "Sample") -> Array:
        """Values of a map at one sample of all segments.

        Args:
          strips: the map [rows, 8, lanes].
          slopes: the differences from each column of the map to the next and to the previous one
            [2, rows, 8, lanes].
          sample: the sample.
        """
        rows = pl.ds(sample.t, self.call.strip)
        slope = slopes.at[sample.backwards.astype(jnp.int32)]
        value = strips[rows] + sample.fraction * slope[rows]
        return pltpu.roll(value, self._shift(sample, forth=True), 2)

    def add_at(self, total: Any, sample: "Sample", values: Array) -> None:
        """Add the values that all segments have at a sample to the two pixels it lies between."""
        rows = pl.ds(sample.t, self.call.strip)
        far = sample.fraction * values
        one = jnp.where(sample.backwards, self.call.lanes - 1, 1)
        values = (values - far) + pltpu.roll(far, one, 2)
        total[rows] += pltpu.roll(values, self._shift(sample, forth=False), 2)

    def _shift(self, sample: "Sample", forth: bool) -> Array:
        """The rotation that moves the pixel next to a sample to the first pixel, or back."""
        to_the_left = sample.backwards != forth
        turned = to_the_left & (sample.columns > 0)
        return jnp.where(turned, self.call.lanes - sample.columns, sample.columns)


@dataclass(frozen=True)
class Sample:
    """Sample t of the segments at one offset, from the first pixel.

    It lies t rows, `columns` columns and a `fraction` of a column further on. Columns are counted
    backwards where e < 0.
    """

    t: Array
    backwards: Array
    columns: Array
    fraction: Array
