"""One pixel's rows and weights equal those of the tables, here of the float64 reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax import ops
from ranet_jax.ops import reference

IDENTITY = np.ones((1, 1), np.float32)
KERNELS = {1: [[0.9]], 3: [[0.1, -0.2, 0.0], [0.05, 1.0, 0.1], [0.0, 0.3, -0.1]]}


def maps(rng, height, width, categories=3):
    boundary = rng.uniform(size=(height, width)).astype(np.float32) ** 2
    probabilities = rng.dirichlet(np.ones(categories), (height, width)).astype(np.float32)
    return boundary, probabilities


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((4, 5), 3),
        pytest.param((4, 5), 1, marks=pytest.mark.long),
        pytest.param((1, 6), 3, marks=pytest.mark.long),
        pytest.param((6, 1), 1, marks=pytest.mark.long),
        ((1, 1), 1),
    ],
)
def test_rows_are_those_of_the_tables(rng, shape, size):
    boundary, probabilities = maps(rng, *shape)
    kernel = np.array(KERNELS[size], np.float32)
    crossing = reference.segment_max(boundary)
    divergence = reference.jensen_shannon(probabilities.reshape(-1, 3))
    attention = reference.region_attention(crossing, divergence)
    filtered = reference.regularize(attention, kernel, shape)
    tables = (crossing, divergence, attention, filtered, (filtered + filtered.T) / 2)
    rows = jax.jit(ops.pixel_attention)
    for pixel in range(boundary.size):
        for name, row, table in zip(
            ops.PixelAttention._fields,
            rows(boundary, probabilities, kernel, pixel),
            tables,
            strict=True,
        ):
            np.testing.assert_allclose(row, table[pixel], atol=2e-6, err_msg=name)


def test_crossing_and_divergence_are_the_very_numbers_of_their_tables(rng):
    boundary, probabilities = maps(rng, 7, 5)
    rows = jax.jit(ops.pixel_attention)(boundary, probabilities, IDENTITY, 17)
    np.testing.assert_array_equal(rows.crossing, jax.jit(ops.segment_max)(boundary)[17])
    expected = jax.jit(ops.jensen_shannon)(probabilities.reshape(-1, 3))[17]
    np.testing.assert_allclose(rows.divergence, expected, atol=1e-7)


@pytest.mark.slow
def test_gradients_of_a_row_are_those_of_the_table(rng):
    boundary, probabilities = maps(rng, 3, 4)
    weights = rng.normal(size=12).astype(np.float32)

    def of_row(boundary, probabilities):
        return weights @ ops.pixel_attention(boundary, probabilities, IDENTITY, 5).attention

    def of_table(boundary, probabilities):
        table = ops.region_attention(
            ops.segment_max(boundary), ops.jensen_shannon(probabilities.reshape(-1, 3))
        )
        return weights @ table[5]

    found = jax.jit(jax.grad(of_row, argnums=(0, 1)))(boundary, probabilities)
    expected = jax.jit(jax.grad(of_table, argnums=(0, 1)))(boundary, probabilities)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


def test_samples_of_the_docstring():
    samples = ops.segment_samples(np.array([[0.1, 0.3], [0.9, 0.5], [0.2, 0.4]]), 5, 0)
    np.testing.assert_allclose(samples.positions, [[0, 0], [1, 0.5], [2, 1]])
    np.testing.assert_allclose(samples.scores, [0.1, 0.7, 0.4], atol=1e-7)


def test_the_largest_sample_is_the_crossing(rng):
    boundary, _ = maps(rng, 5, 6)
    crossing = reference.segment_max(boundary)
    for first in range(30):
        for second in range(30):
            samples = ops.segment_samples(boundary, first, second)
            assert samples.scores.max() == pytest.approx(crossing[first, second], abs=1e-6)
            ends = [tuple(divmod(pixel, 6)) for pixel in sorted((first, second))]
            assert [tuple(samples.positions[at].tolist()) for at in (0, -1)] == ends


@pytest.mark.parametrize("pixel", [-1, 20, 1.5])
def test_a_pixel_that_does_not_exist_is_refused(rng, pixel):
    boundary, probabilities = maps(rng, 4, 5)
    with pytest.raises(ValueError, match="pixel"):
        ops.pixel_attention(boundary, probabilities, IDENTITY, pixel)


def test_samples_of_a_pixel_that_does_not_exist_are_refused(rng):
    with pytest.raises(ValueError, match=r"second must lie in \[0, 20\)"):
        ops.segment_samples(maps(rng, 4, 5)[0], 0, 20)


def test_an_even_kernel_is_refused(rng):
    with pytest.raises(ValueError, match="odd"):
        ops.pixel_attention(*maps(rng, 4, 5), np.ones((2, 2), np.float32), 0)


# ---------------------------------------------------------------------------- Eqs. 6-8

DIVISIONS = {
    "three regions": ([0, 1, 0, 0, 1, 5, 1, 0], 3, 2),
    "a slot left over": ([0, 1, 0, 0, 1, 5, 1, 0], 4, 2),
    "a region without slot": ([0, 1, 0, 0, 1, 5, 1, 0], 2, 2),
    "all pixels represent": ([0, 1, 0, 0, 1, 5, 1, 0], 3, 9),
    "one region": ([0] * 8, 2, 2),
}


collection_weights, interaction_weights, distribution_weights = map(
    jax.jit, (ops.collection_weights, ops.interaction_weights, ops.distribution_weights)
)


@pytest.mark.parametrize(
    "division",
    [
        "three regions",
        *(pytest.param(name, marks=pytest.mark.long) for name in list(DIVISIONS)[1:]),
    ],
)
def test_weights_give_what_the_equations_give(rng, division):
    labels, num_regions, per_region = DIVISIONS[division]
    labels = np.array(labels)
    features = rng.normal(size=(8, 3)).astype(np.float32)
    score = rng.uniform(0.2, 1, size=8).astype(np.float32)
    chosen = ops.select_representatives(score, labels, num_regions, per_region)
    indices, valid = np.asarray(chosen.indices), np.asarray(chosen.valid)
    scored = score[:, None] * features

    local = reference.collect(features, score, labels, chosen)
    for slot in range(num_regions):
        weights = collection_weights(features, score, labels, chosen, slot)
        gathered = scored[indices[slot]] + np.asarray(weights) @ scored
        np.testing.assert_allclose(
            np.where(valid[slot][:, None], gathered, 0), local[slot], atol=1e-5
        )

    context = reference.interact(local, score, chosen)
    scored_local = score[indices][..., None] * local
    weights = np.asarray(interaction_weights(local.astype(np.float32), score, chosen))
    gathered = scored_local + np.einsum("qksi,sim->qkm", weights, scored_local)
    np.testing.assert_allclose(np.where(valid[..., None], gathered, 0), context, atol=1e-5)

    output = reference.distribute(features, score, labels, chosen, context)
    scored_context = score[indices][..., None] * context
    for pixel in range(8):
        weights = distribution_weights(
            features, score, labels, chosen, context.astype(np.float32), pixel
        )
        gathered = scored[pixel] + np.einsum("qk,qkm->m", np.asarray(weights), scored_context)
        np.testing.assert_allclose(gathered, output[pixel], atol=1e-5)


def test_a_slot_or_a_pixel_that_does_not_exist_is_refused(rng):
    features, score = rng.normal(size=(4, 2)), rng.uniform(size=4)
    labels = np.zeros(4, int)
    chosen = ops.select_representatives(score, labels, 2, 1)
    with pytest.raises(ValueError, match=r"slot must lie in \[0, 2\)"):
        ops.collection_weights(features, score, labels, chosen, 2)
    with pytest.raises(ValueError, match=r"pixel must lie in \[0, 4\)"):
        ops.distribution_weights(features, score, labels, chosen, jnp.zeros((2, 1, 2)), 4)
