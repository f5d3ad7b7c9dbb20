"""Sorting of pixels by region into blocks that hold one region each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from ranet_jax.ops.checks import ArrayLike, check_shapes


class Blocks(NamedTuple):
    """The pixels of the regions that have a slot, in blocks that hold one region each.

    `slot` is the slot of each block's region, in increasing order, and Q for unused blocks.
    `pixels` holds the pixels of each block, in increasing order within a region, and n in unused
    places. `position` is each pixel's place in the flattened `pixels`, or the length of the
    flattened `pixels` if the pixel's region has no slot.
    """

    slot: Int[Array, " blocks"]
    pixels: Int[Array, "blocks size"]
    position: Int[Array, " n"]


def block_size(n: int, q: int) -> int:
    """Choose the number of pixels in a block for n pixels and q slots: 16, 32, 48 or 64.

    Larger blocks need fewer copies of the values that the pixels of a region share, but more
    padding. From 16 pixels per slot upwards, the padding is at most n.
    """
    return 16 * min(max(n // (16 * q), 1), 4)


def sort_into_blocks(labels: Int[Array, " n"], roots: Int[Array, " q"], size: int) -> Blocks:
    """Sort the pixels of every region that has a slot into blocks; its last block is padded.

    A region of c pixels fills ceil(c / size) <= floor(c / size) + 1 blocks, and at most min(Q, n)
    regions have both a slot and a pixel, so floor(n / size) + min(Q, n) blocks are enough for any
    division into regions. With blocks of two pixels, a region without a slot (5) and a slot without
    a region:

        pixel      0  1  2  3  4  5  6         slot         0  1  2
        label      0  2  2  0  2  5  2         root         2 -1  0
        position   4  0  1  5  2 12  3

        block       0    1    2    3    4    5
        slot        0    0    2    3    3    3
        pixels     1 2  4 6  0 3  7 7  7 7  7 7

    Args:
      labels: region label of each pixel, in [0, n).
      roots: region label of each slot, -1 where the slot is empty; no label has two slots.
      size: number of pixels in a block.

    Raises:
      ValueError: an argument is not one-dimensional, or (Q + 1) n exceeds 2^31.
    """
    sizes = check_shapes(labels=(labels, "n"), roots=(roots, "q"))
    n, q = sizes["n"], sizes["q"]
    if (q + 1) * n > 2**31:
        raise ValueError(f"{q} slots and {n} pixels are too many to sort by 32-bit numbers")
    num_blocks = n // size + min(q, n)

    slot_of_pixel = inverse(jnp.where(roots < 0, n, roots), n)[labels]
    # Sorting one array is several times faster than sorting the pixels by a second array.
    order = jnp.sort(slot_of_pixel * n + jnp.arange(n, dtype=jnp.int32)) % n
    area = jnp.zeros(q, jnp.int32).at[slot_of_pixel].add(1, mode="drop")
    num_filled = (area + size - 1) // size
    padding = num_filled * size - area

    block = jnp.arange(num_blocks, dtype=jnp.int32)
    slot = jnp.searchsorted(jnp.cumsum(num_filled), block, side="right", method="compare_all")
    padding_before = of_slots(jnp.cumsum(padding) - padding, slot)
    pixels_until = of_slots(jnp.cumsum(area), slot)
    places = jnp.arange(num_blocks * size, dtype=jnp.int32).reshape(num_blocks, size)
    rank = places - padding_before[:, None]
    pixels = jnp.where(rank < pixels_until[:, None], order[rank], n)
    return Blocks(slot, pixels, inverse(pixels.ravel(), n))


def inverse(rows: Int[Array, " p"], n: int) -> Int[Array, " n"]:
    """Find the position in `rows` of each number below n, or p if it is missing.

    No number below n may occur twice; other numbers are ignored. The inverse of [2, 0, 3] with
    n = 3 is [1, 3, 0].
    """
    p = rows.shape[0]
    return jnp.full(n, p, jnp.int32).at[rows].set(jnp.arange(p, dtype=jnp.int32), mode="drop")


@jax.custom_vjp
def take_rows(
    values: Shaped[Array, "n *row"], rows: Int[Array, " p"], origins: Int[Array, " n"]
) -> Shaped[Array, "p *row"]:
    """Take rows, none of them twice; a row number that is not below n gives zeros.

    The gradient is gathered by `origins`, the `inverse` of `rows`, whereas the gradient of plain
    indexing would be a scatter.
    """
    del origins
    return values.at[rows].get(mode="fill", fill_value=0)


def _take_rows_forward(values: Array, rows: Array, origins: Array) -> tuple:
    return take_rows(values, rows, origins), (rows, origins)


def _take_rows_backward(residuals: tuple, gradient: ArrayLike) -> tuple:
    rows, origins = residuals
    # Outside of jit, a constant gradient is passed as a NumPy array.
    return take_rows(jnp.asarray(gradient), origins, rows), None, None


take_rows.defvjp(_take_rows_forward, _take_rows_backward)


def into_blocks(
    values: Shaped[Array, "n *row"], blocks: Blocks
) -> Shaped[Array, "blocks size *row"]:
    """Copy the row of each pixel into the blocks, with zeros where a block has no pixel."""
    rows = take_rows(values, blocks.pixels.ravel(), blocks.position)
    return rows.reshape(*blocks.pixels.shape, *values.shape[1:])


def out_of_blocks(
    values: Shaped[Array, "blocks size *row"], blocks: Blocks
) -> Shaped[Array, "n *row"]:
    """Return the rows to the order of the pixels, with zeros where the region has no slot."""
    rows = values.reshape(-1, *values.shape[2:])
    return take_rows(rows, blocks.position, blocks.pixels.ravel())


def of_slots(
    values: Shaped[Array, "q *row"], slot: Int[Array, " blocks"]
) -> Shaped[Array, "blocks *row"]:
    """Give each block the row of its slot, and unused blocks zeros."""
    return values.at[slot].get(mode="fill", fill_value=0, indices_are_sorted=True)
