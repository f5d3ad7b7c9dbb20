"""The convolution's values and gradients against XLA's and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ranet_jax.models import convolution
from ranet_jax.models.layers import conv

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("block_pixels", [512, 30, 1])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation"), [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 4)]
)
def test_value_and_gradients_equal_pytorch(
    kernel_size, stride, dilation, block_pixels, monkeypatch
):
    """A block holds all images, some rows of one image (the last block is not full), or one row."""
    monkeypatch.setattr(convolution, "BLOCK_PIXELS", block_pixels)
    channels, rng = 3, np.random.default_rng(0)
    layer = conv(5, kernel_size, stride=stride, dilation=dilation)
    images = rng.normal(size=(2, 7, 10, channels)).astype(np.float32)
    kernel = rng.normal(size=(kernel_size, kernel_size, channels, 5)).astype(np.float32)

    def apply(images, kernel):
        return layer.apply({"params": {"kernel": kernel}}, images)

    outputs, pull = jax.vjp(jax.jit(apply), jnp.asarray(images), jnp.asarray(kernel))
    weights = rng.normal(size=outputs.shape).astype(np.float32)
    found = jax.jit(pull)(jnp.asarray(weights))

    x = torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float64, requires_grad=True)
    k = torch.tensor(kernel.transpose(3, 2, 0, 1), dtype=torch.float64, requires_grad=True)
    pad = dilation * (kernel_size - 1) // 2
    y = torch.nn.functional.conv2d(x, k, stride=stride, padding=pad, dilation=dilation)
    y.backward(torch.tensor(weights.transpose(0, 3, 1, 2), dtype=torch.float64))
    expected = (
        y.detach().numpy().transpose(0, 2, 3, 1),
        x.grad.numpy().transpose(0, 2, 3, 1),
        k.grad.numpy().transpose(2, 3, 1, 0),
    )
    for value, wanted in zip((outputs, *found), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_the_kernel_gradient_holds_no_convolution_on_a_cpu():
    layer = conv(4, 3)
    images, kernel = jnp.ones((1, 8, 8, 5)), jnp.ones((3, 3, 5, 4))
    loss = jax.grad(lambda k: layer.apply({"params": {"kernel": k}}, images).sum())
    compiled = jax.jit(loss).lower(kernel).compile().as_text()
    assert "convolution(" not in compiled
    assert "dot(" in compiled


@pytest.mark.parametrize(
    ("batch", "height", "width", "block"),
    [
        (8, 60, 80, (1, 6)),
        (8, 15, 20, (1, 15)),
        (6, 10, 10, (3, 10)),
        (7, 4, 4, (7, 4)),
        (2, 3, 999, (1, 1)),
    ],
)
def test_a_block_has_about_as_many_pixels_as_asked(batch, height, width, block):
    assert convolution._block(batch, height, width) == block


def test_keeps_bfloat16():
    layer = conv(4, 3, dtype=jnp.bfloat16)
    kernel = jnp.ones((3, 3, 5, 4))

    def loss(kernel):
        images = jnp.ones((1, 4, 4, 5), jnp.bfloat16)
        outputs = layer.apply({"params": {"kernel": kernel}}, images)
        assert outputs.dtype == jnp.bfloat16
        return outputs.astype(jnp.float32).sum()

    # Every position of the kernel sees ones: 16 of them in the middle, 12 or 9 at its edges.
    seen = np.outer([3, 4, 3], [3, 4, 3])
    gradient = jax.jit(jax.grad(loss))(kernel)
    np.testing.assert_array_equal(gradient, np.broadcast_to(seen[..., None, None], kernel.shape))


def test_groups_keep_their_gradient():
    layer = conv(4, 3, groups=2)
    images = jnp.ones((1, 1, 1, 2))
    kernel = jnp.zeros((3, 3, 1, 4))
    gradient = jax.grad(lambda k: layer.apply({"params": {"kernel": k}}, images).sum())(kernel)
    np.testing.assert_array_equal(
        gradient, np.zeros((3, 3, 1, 4)) + (np.eye(3)[1][:, None] * np.eye(3)[1])[..., None, None]
    )
