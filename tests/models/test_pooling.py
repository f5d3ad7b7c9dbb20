"""Pooling and the gradient of max-pooling against PyTorch's, ties included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ranet_jax.models import pooling

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((1, 2), (1, 2))])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 12), (16, 7)])
def test_value_and_gradient_equal_pytorch(size, padding):
    """Whole numbers from 0 to 3, so that most windows have several largest values."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 4, (2, *size, 3)).astype(np.float32)
    outputs, pull = jax.vjp(lambda x: pooling.max_pool(x, padding), jnp.asarray(images))
    weights = rng.normal(size=outputs.shape).astype(np.float32)
    (found,) = jax.jit(pull)(jnp.asarray(weights))

    x = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    (top, bottom), (left, right) = padding
    padded = torch.nn.functional.pad(x, (left, right, top, bottom), value=-torch.inf)
    y = torch.nn.functional.max_pool2d(padded, 3, 2)
    y.backward(torch.tensor(weights.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(outputs, y.detach().numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, x.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 12), (16, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_means_equal_pytorch(size, stride):
    """At stride 2 only the pixels of a window count, at stride 1 also zeros beyond the end."""
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    if stride == 1:
        x = torch.nn.functional.pad(x, (0, 1, 0, 1))
    y = torch.nn.functional.avg_pool2d(x, 2, stride, ceil_mode=True, count_include_pad=False)
    found = pooling.mean_pool(jnp.asarray(images), stride)
    np.testing.assert_allclose(found, y.numpy().transpose(0, 2, 3, 1), rtol=1e-6, atol=1e-6)


def test_both_gradients_are_one():
    """The gradient for TPUs, compiled here, equals that of shifted maps."""
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.integers(0, 3, (1, 11, 8, 2)).astype(np.float32))
    gradients = [
        jax.grad(lambda x, pool=pool: jnp.sum(jnp.sin(pool(x, ((1, 1), (1, 1))))))(images)
        for pool in (pooling._windows, pooling._shifts)
    ]
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-6)


def test_keeps_bfloat16():
    images = jnp.ones((1, 5, 5, 2), jnp.bfloat16)
    padding = ((1, 1), (1, 1))
    assert pooling.max_pool(images, padding).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: pooling.max_pool(x, padding).sum().astype(jnp.float32))(images)
    assert gradient.dtype == jnp.bfloat16
