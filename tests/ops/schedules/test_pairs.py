"""The enumeration of pixel pairs by offset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.ops.schedules import pairs as pairs_module
from ranet_jax.ops.schedules.pairs import visit_pairs


def add(flat, shift, values):
    window = jax.lax.dynamic_slice(flat, (shift,), values.shape)
    return jax.lax.dynamic_update_slice(flat, window + values, (shift,))


def partners(shape):
    """For each pixel the number of its pairs, and sums of its partners' numbers and squares."""
    number = jnp.arange(shape[0] * shape[1], dtype=jnp.int32).reshape(shape)
    maps = jnp.stack([jnp.ones_like(number), number, number**2])

    def visit(pairs, maps, totals):
        rows = []
        for total, values in zip(totals, maps, strict=True):
            first, second = (jnp.where(pairs.exist, x, 0) for x in pairs.both(values))
            rows.append(add(add(total, 0, second), pairs.shift, first))
        return jnp.stack(rows)

    return jax.jit(lambda: visit_pairs(visit, shape, maps, maps))()


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 6), (6, 1), (2, 2), (3, 5), (7, 4), (6, 6), (19, 18), (20, 20)]
)
def test_every_pair_is_visited_once(shape):
    count = shape[0] * shape[1]
    number = np.arange(count).reshape(shape)
    expected = [
        np.full(shape, count - 1),
        number.sum() - number,
        (number**2).sum() - number**2,
    ]
    np.testing.assert_array_equal(partners(shape), expected)


def test_buckets_hold_every_row_offset_in_few_loops():
    for height in (1, 2, 16, 17, 18, 97, 129, 400):
        buckets = pairs_module.row_buckets(height)
        assert [d for rows in buckets for d in rows] == list(range(1, height))
        assert len(buckets) <= pairs_module.MAX_BUCKETS
