"""The convolution's values and gradients against XLA's and PyTorch's."""

import functools

import jax
import jax.export
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
    check_value_and_gradients(conv(5, kernel_size, stride=stride, dilation=dilation))


@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation"),
    [(3, 1, 1), (3, 2, 1), (3, 1, 9), (5, 1, 1), (5, 2, 1), (3, 2, 2), (1, 2, 1)],
)
def test_depthwise_values_and_gradients_equal_pytorch(kernel_size, stride, dilation):
    """With a dilation of 9, the outer places of the kernel see nothing of an image's 7 rows."""
    settings = {"stride": stride, "dilation": dilation, "groups": 3}
    check_value_and_gradients(conv(3, kernel_size, **settings))


@pytest.mark.parametrize("groups", [1, 3])
def test_other_platforms_have_the_same_values_and_gradients(groups, monkeypatch):
    def default_only(*arguments, default, **_):
        return default(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", default_only)
    check_value_and_gradients(conv(3, 3, stride=2, dilation=2, groups=groups))


def test_other_platforms_keep_the_depthwise_convolution():
    layer = conv(4, 3, groups=4)
    images, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))
    traced = jax.jit(layer.apply).trace({"params": {"kernel": kernel}}, images)
    for platform in ("cuda", "tpu"):
        assert "stablehlo.convolution" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_depthwise_with_settings_that_differ_between_axes():
    """An even kernel, and more padding than it reaches, against XLA's convolution."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 7, 10, 3)).astype(np.float32)
    kernel = generator.normal(size=(2, 3, 1, 3)).astype(np.float32)
    strides, padding, dilation = (2, 3), ((4, 0), (0, 5)), (1, 2)

    native = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=convolution.LAYOUT,
        feature_group_count=3,
    )

    def ours(images, kernel):
        return convolution.convolve(images, kernel, strides, padding, dilation)

    expected, pull_expected = jax.vjp(native, images, kernel)
    outputs, pull = jax.vjp(jax.jit(ours), images, kernel)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(pull(expected), pull_expected(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def as_pytorch(kernel):
    return torch.tensor(kernel.transpose(3, 2, 0, 1))


def in_pytorch(layer, images, kernel):
    return torch.nn.functional.conv2d(
        images,
        kernel,
        stride=layer.strides,
        padding=layer.padding[0][0],
        dilation=layer.kernel_dilation,
        groups=layer.feature_group_count,
    )


def check_value_and_gradients(layer):
    """Compare a layer of 3 input channels on images of 7 x 10 pixels with PyTorch in float64."""
    channels, rng = 3, np.random.default_rng(0)
    groups, sizes = layer.feature_group_count, layer.kernel_size
    shape = (*sizes, channels // groups, layer.features)
    images = rng.normal(size=(2, 7, 10, channels)).astype(np.float32)
    kernel = rng.normal(size=shape).astype(np.float32)

    def apply(images, kernel):
        return layer.apply({"params": {"kernel": kernel}}, images)

    outputs, pull = jax.vjp(jax.jit(apply), jnp.asarray(images), jnp.asarray(kernel))
    weights = rng.normal(size=outputs.shape).astype(np.float32)
    found = jax.jit(pull)(jnp.asarray(weights))

    x = torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float64, requires_grad=True)
    k = as_pytorch(kernel).double().requires_grad_()
    y = in_pytorch(layer, x, k)
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


def test_a_depthwise_layer_holds_no_convolution_on_a_cpu():
    layer = conv(4, 3, groups=4)
    images, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))

    def loss(images, kernel):
        return jnp.sum(layer.apply({"params": {"kernel": kernel}}, images) ** 2)

    def texts():
        for function in (loss, jax.grad(loss, 0), jax.grad(loss, 1)):
            yield jax.jit(lambda *args, f=function: f(*args)).lower(images, kernel).compile()

    assert not any("convolution(" in compiled.as_text() for compiled in texts())
    layer = layer.clone(conv_general_dilated=jax.lax.conv_general_dilated)
    assert all("convolution(" in compiled.as_text() for compiled in texts())


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_on_images_of_a_symbolic_size(stride):
    layer = conv(5, 3, stride=stride, groups=5)
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(3, 3, 1, 5)).astype(np.float32)
    apply = jax.jit(functools.partial(layer.apply, {"params": {"kernel": kernel}}))
    height, width = jax.export.symbolic_shape("h, w", constraints=("h >= 33", "w >= 33"))
    images = jax.ShapeDtypeStruct((1, height, width, 5), jnp.float32)
    exported = jax.export.export(apply, platforms=("cpu", "cuda", "tpu"))(images)
    image = generator.normal(size=(1, 37, 50, 5)).astype(np.float32)
    expected = in_pytorch(layer, torch.tensor(image.transpose(0, 3, 1, 2)), as_pytorch(kernel))
    outputs = np.asarray(exported.call(image)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("groups", [1, 4])
def test_keeps_bfloat16(groups):
    channels = 5 if groups == 1 else groups
    layer = conv(4, 3, groups=groups, dtype=jnp.bfloat16)
    kernel = jnp.ones((3, 3, channels // groups, 4))

    def loss(kernel):
        images = jnp.ones((1, 4, 4, channels), jnp.bfloat16)
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
