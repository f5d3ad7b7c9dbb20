import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.ops.blocks import (
    Blocks,
    block_size,
    into_blocks,
    inverse,
    of_slots,
    out_of_blocks,
    sort_into_blocks,
    take_rows,
)
from ranet_jax.testing import check_vmap

sort_blocks = jax.jit(sort_into_blocks, static_argnums=2)


def loops(labels, roots, size):
    """Slot, pixels and position, region by region."""
    n, q = len(labels), len(roots)
    slot, pixels = [], []
    for number, root in enumerate(roots.tolist()):
        members = np.flatnonzero(labels == root).tolist()
        for start in range(0, len(members), size):
            slot.append(number)
            pixels.append((members[start : start + size] + [n] * size)[:size])
    num_blocks = n // size + min(q, n)
    left_over = num_blocks - len(slot)
    assert left_over >= 0, "the regions need more blocks than there are"
    pixels += [[n] * size] * left_over
    places = np.array(pixels).ravel().tolist()
    position = [places.index(i) if i in places else num_blocks * size for i in range(n)]
    return Blocks(slot + [q] * left_over, pixels, position)


def random_regions(rng, n, q):
    """Labels of n pixels and the roots of q slots: some slots are empty, some regions have none."""
    labels = rng.integers(0, rng.integers(1, n + 1), size=n)
    found = rng.permutation(np.unique(labels))[: rng.integers(0, q + 1)]
    roots = np.full(q, -1)
    roots[rng.permutation(q)[: len(found)]] = found
    return jnp.asarray(labels, jnp.int32), jnp.asarray(roots, jnp.int32)


@pytest.mark.parametrize(
    ("n", "q", "size"), [(1, 1, 4), (1, 7, 16), (5, 64, 2), (64, 3, 16), (65, 3, 16), (90, 20, 4)]
)
def test_equals_loops(n, q, size, rng):
    for _ in range(20):
        labels, roots = random_regions(rng, n, q)
        blocks = sort_blocks(labels, roots, size)
        for found, expected in zip(blocks, loops(labels, roots, size), strict=True):
            assert found.dtype == jnp.int32
            np.testing.assert_array_equal(found, expected)


def test_docstring_table(docstring_table):
    (label, position), (slot, pixels) = (
        docstring_table(sort_into_blocks, [heading]) for heading in ("pixel", "block")
    )
    gap = label.index("root")
    roots = np.array(label[gap + 1 :], np.int32)
    blocks = sort_blocks(np.array(label[1:gap], np.int32), roots, 2)
    np.testing.assert_array_equal(blocks.position, np.array(position[1:], int))
    np.testing.assert_array_equal(blocks.slot, np.array(slot[1:], int))
    np.testing.assert_array_equal(blocks.pixels.ravel(), np.array(pixels[1:], int))


def test_no_block_is_left_over_when_each_region_is_one_pixel_too_large():
    labels = jnp.arange(15, dtype=jnp.int32) % 3
    blocks = sort_blocks(labels, jnp.arange(3, dtype=jnp.int32), 4)
    assert blocks.slot.tolist() == [0, 0, 1, 1, 2, 2]
    assert (blocks.pixels < 15).sum(axis=1).tolist() == [4, 1] * 3


def test_batch_equals_its_images(rng):
    images = [random_regions(rng, 40, 6) for _ in range(3)]
    batch = [jnp.stack(arrays) for arrays in zip(*images, strict=True)]
    check_vmap(lambda labels, roots: sort_into_blocks(labels, roots, 8), *batch)


def test_as_many_slots_as_32_bits_allow():
    def shapes(n, q):
        labels, roots = (jax.ShapeDtypeStruct((size,), jnp.int32) for size in (n, q))
        return jax.eval_shape(lambda *arrays: sort_into_blocks(*arrays, 64), labels, roots)

    assert shapes(2**16, 2**15 - 1).position.shape == (2**16,)
    with pytest.raises(ValueError, match="32768 slots and 65536 pixels"):
        shapes(2**16, 2**15)


def test_rejects_tables(without_jaxtyping):
    with pytest.raises(ValueError, match="labels must have"):
        sort_into_blocks(jnp.zeros((2, 2), jnp.int32), jnp.zeros(2, jnp.int32), 4)


def test_padding_is_less_than_the_pixels():
    assert [block_size(9409, 64), block_size(144, 16), block_size(1, 5)] == [64, 16, 16]
    for n in range(16, 400, 7):
        for q in range(1, n // 16 + 1):
            assert q * (block_size(n, q) - 1) < n


def test_inverse_by_hand():
    assert inverse(jnp.array([2, 0, 3]), 3).tolist() == [1, 3, 0]


def test_rows_go_into_blocks_and_come_back(rng):
    labels, roots = jnp.array([0, 2, 2, 0, 2, 5, 2]), jnp.array([2, -1, 0])
    blocks = sort_blocks(labels, roots, 2)
    rows = jnp.asarray(rng.normal(size=(7, 3)), jnp.float32)
    padded = np.concatenate([rows, np.zeros((1, 3), np.float32)])
    inside = into_blocks(rows, blocks)
    np.testing.assert_array_equal(inside, padded[np.asarray(blocks.pixels)])
    back = np.where(labels[:, None] == 5, 0, rows)
    np.testing.assert_array_equal(out_of_blocks(inside, blocks), back)


def test_gradients_are_those_of_plain_indexing_and_are_not_scattered(rng):
    rows, origins = jnp.array([3, 5, 0, 2, 5]), jnp.array([2, 5, 3, 0, 5])
    np.testing.assert_array_equal(inverse(rows, 5), origins)
    values = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)

    def taken(values):
        return jnp.sum(weights * take_rows(values, rows, origins) ** 2)

    def indexed(values):
        padded = jnp.concatenate([values, jnp.zeros((1, 2))])
        return jnp.sum(weights * padded[rows] ** 2)

    for derivative in (jax.grad, lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2))):
        np.testing.assert_allclose(derivative(taken)(values), derivative(indexed)(values))
        assert "scatter" not in str(jax.make_jaxpr(derivative(taken))(values))


def test_blocks_left_over_have_zeros_of_their_slot():
    values, slot = jnp.array([[1.0], [2.0]]), jnp.array([0, 1, 1, 2])
    np.testing.assert_array_equal(of_slots(values, slot), [[1], [2], [2], [0]])
    np.testing.assert_array_equal(of_slots(values > 1, slot), [[False], [True], [True], [False]])
