"""Eqs. 1-8 in a row, from scores and features to the contextual features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax import ops
from ranet_jax.ops import reference
from ranet_jax.testing import check_finite, check_vmap

SHAPE = (4, 5)


def equations(implementation, features, boundary, probabilities, kernel, threshold=0.8, q=4, k=3):
    """Labels, J and O by either implementation."""
    crossing = implementation.segment_max(boundary)
    divergence = implementation.jensen_shannon(probabilities)
    attention = implementation.region_attention(crossing, divergence)
    attention = implementation.regularize(attention, kernel, boundary.shape)
    labels = implementation.partition(implementation.region_decision(attention, threshold))
    score = implementation.representative_score(attention, labels)
    chosen = implementation.select_representatives(score, labels, q, k)
    local = implementation.collect(features, score, labels, chosen)
    context = implementation.interact(local, score, chosen)
    return labels, score, implementation.distribute(features, score, labels, chosen, context)


@jax.jit
def in_jax(*arguments):
    return equations(ops, *arguments)


def random_image(rng):
    logits = 2 * rng.normal(size=(20, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    arrays = rng.normal(size=(20, 3)), rng.uniform(0, 0.2, size=SHAPE), probabilities
    return [jnp.asarray(x, jnp.float32) for x in arrays]


@pytest.mark.parametrize(("threshold", "size"), [(0.8, 1), (0.65, 3)])
def test_equal_the_reference(threshold, size, rng):
    kernel = np.zeros((size, size), np.float32)
    kernel[size // 2, size // 2] = 0.9
    kernel[0, 0] += 0.05
    arguments = [*random_image(rng), jnp.asarray(kernel)]
    labels, score, out = jax.jit(equations, static_argnums=(0, 5))(ops, *arguments, threshold)
    expected_labels, expected_score, expected_out = equations(reference, *arguments, threshold)
    assert 1 < len(set(expected_labels.tolist())) < 20, "the case must have regions"
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(score, expected_score, rtol=1e-5)
    np.testing.assert_allclose(out, expected_out, atol=1e-4)


@pytest.mark.slow
def test_two_categories_and_a_wall_make_three_regions_beside_the_wall():
    # Categories 0 0 0 1 1 in every row, and a wall in column 1 of category 0.
    category = jnp.tile(jnp.array([0, 0, 0, 1, 1]), (4, 1)).ravel()
    boundary = jnp.zeros(SHAPE).at[:, 1].set(1.0)
    features = jnp.ones((20, 3))
    labels, _, _ = in_jax(features, boundary, jnp.eye(2)[category], jnp.ones((1, 1)))
    grid = np.asarray(labels).reshape(SHAPE)
    assert (grid[:, 0] == 0).all()
    assert (grid[:, 2] == 2).all()
    assert (grid[:, 3:] == 3).all()
    # No pixel of the wall goes with any other.
    assert grid[:, 1].tolist() == [1, 6, 11, 16]


@pytest.mark.slow
def test_degenerate_scores_have_finite_gradients(rng):
    features, _, _ = random_image(rng)
    boundary = jnp.zeros(SHAPE).at[:, 2].set(1.0)
    probabilities = jnp.eye(3)[jnp.arange(20) % 3]

    arguments = (features, boundary, probabilities, jnp.ones((1, 1)))
    check_finite(in_jax, *arguments, scales=[1.0])


@pytest.mark.slow
def test_boundary_categories_and_kernel_learn_through_the_score(rng):
    arguments = (*random_image(rng), jnp.full((1, 1), 0.95))

    def loss(*arguments):
        return jnp.sum(equations(ops, *arguments, 0.5)[2] ** 2)

    for gradient in jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*arguments):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@pytest.mark.slow
def test_batch_equals_its_images(rng):
    images = [random_image(rng) for _ in range(2)]
    batch = [jnp.stack(arrays) for arrays in zip(*images, strict=True)]
    kernel = jnp.ones((1, 1))
    check_vmap(in_jax, *batch, kernel, in_axes=[0, 0, 0, None], rtol=1e-6, atol=1e-5)


def test_one_pixel():
    labels, score, out = in_jax(
        jnp.array([[1.0, 2.0]]), jnp.full((1, 1), 0.5), jnp.array([[0.3, 0.7]]), jnp.ones((1, 1))
    )
    assert labels.tolist() == [0]
    # J = F = 1 - B. O = J A + J A^g with A^g = J A^l and A^l = J A.
    assert score.tolist() == [0.5]
    np.testing.assert_allclose(out, [[0.625, 1.25]])
