"""Convolution with a kernel gradient adapted to the platform.

On CPUs, XLA computes the gradient of a kernel several times slower than the convolution itself, and
slowest of all for few channels and large images. Here the gradient is computed for one block of
rows after another, each as one matrix product with the pixels that the kernel saw there, which
takes a third to a half of that time. The values, the gradient of the images, and the kernel
gradient on other platforms are computed by XLA.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LAYOUT = jax.lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))
# The settings that `flax.linen.Conv` passes for a convolution of two axes without groups.
PLAIN = {
    "lhs_dilation": (1, 1),
    "dimension_numbers": LAYOUT,
    "feature_group_count": 1,
    "precision": None,
}
# Approximate number of pixels in a block, chosen so that the pixels that the kernel sees stay in a
# core's cache.
BLOCK_PIXELS = 512

Pairs = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
    images: Float[Array, "b H W c"],
    kernel: Float[Array, "kh kw c m"],
    strides: tuple[int, int],
    padding: Pairs,
    dilation: tuple[int, int],
) -> Float[Array, "b h w m"]:
    """Convolve images like `jax.lax.conv_general_dilated`, with reverse-mode gradients."""
    return _native(images, kernel, strides, padding, dilation)


def _native(images: Array, kernel: Array, *settings: Any) -> Array:
    strides, padding, dilation = settings
    return jax.lax.conv_general_dilated(
        images, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=LAYOUT
    )


def _forward(images: Array, kernel: Array, *settings: Any) -> tuple[Array, tuple[Array, Array]]:
    return _native(images, kernel, *settings), (images, kernel)


def _backward(
    strides: tuple[int, int],
    padding: Pairs,
    dilation: tuple[int, int],
    saved: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    images, kernel = saved
    settings = strides, padding, dilation
    (to_images,) = jax.linear_transpose(lambda x: _native(x, kernel, *settings), images)(gradient)

    def by_convolution(images: Array, gradient: Array) -> Array:
        apply = functools.partial(_native, images)
        (to_kernel,) = jax.linear_transpose(lambda k: apply(k, *settings), kernel)(gradient)
        return to_kernel

    def by_products(images: Array, gradient: Array) -> Array:
        return _sum_of_products(images, gradient, kernel.shape, settings).astype(kernel.dtype)

    to_kernel = jax.lax.platform_dependent(
        images, gradient, cpu=by_products, default=by_convolution
    )
    return to_images, to_kernel


def _sum_of_products(
    images: Float[Array, "b H W c"],
    gradient: Float[Array, "b h w m"],
    shape: tuple[int, ...],
    settings: tuple[tuple[int, int], Pairs, tuple[int, int]],
) -> Float[Array, "kh kw c m"]:
    """The kernel's gradient, in float32 or better: the sum over blocks of output rows.

    The term of a block is the product of its gradients [m, pixels] and the pixels that each place
    of the kernel sees there [pixels, kh * kw * c]. The last block is filled with rows of zeros.
    """
    strides, padding, dilation = settings
    batch, height, width, features = gradient.shape
    group, rows = _block(batch, height, width)
    blocks = -(-height // rows)
    reach = (shape[0] - 1) * dilation[0] + 1
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    missing = (blocks * rows - 1) * strides[0] + reach - padded.shape[1]
    padded = jnp.pad(padded, ((0, 0), (0, max(0, missing)), (0, 0), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0)))
    span = (rows - 1) * strides[0] + reach
    exact = jnp.float64 if gradient.dtype == jnp.float64 else jnp.float32

    def add(total: Array, number: Array) -> tuple[Array, None]:
        first, row = number // blocks * group, number % blocks * rows
        below = jax.lax.dynamic_slice_in_dim(gradient, first, group)
        below = jax.lax.dynamic_slice_in_dim(below, row, rows, axis=1)
        seen = jax.lax.dynamic_slice_in_dim(padded, first, group)
        seen = jax.lax.dynamic_slice_in_dim(seen, row * strides[0], span, axis=1)
        places = [
            _strided(seen, (y * dilation[0], x * dilation[1]), below, strides)
            for y in range(shape[0])
            for x in range(shape[1])
        ]
        columns = jnp.concatenate(places, axis=-1).reshape(group * rows * width, -1)
        product = jnp.matmul(below.reshape(-1, features).T, columns, preferred_element_type=exact)
        return total + product, None

    count = batch // group * blocks
    start = jnp.zeros((features, shape[0] * shape[1] * shape[2]), exact)
    total, _ = jax.lax.scan(add, start, jnp.arange(count))
    return total.T.reshape(shape)


def _block(batch: int, height: int, width: int) -> tuple[int, int]:
    """Numbers of images and rows in a block of about `BLOCK_PIXELS`; images divide the batch."""
    rows = min(height, max(1, BLOCK_PIXELS // width))
    most = max(1, BLOCK_PIXELS // (height * width))
    return max(n for n in range(1, min(batch, most) + 1) if batch % n == 0), rows


def _strided(
    padded: Array, start: tuple[int, int], outputs: Array, strides: tuple[int, int]
) -> Array:
    """The padded pixels that one place of the kernel sees, one pixel per output."""
    batch, height, width, _ = outputs.shape
    (top, left), (down, right) = start, strides
    limits = top + (height - 1) * down + 1, left + (width - 1) * right + 1
    return jax.lax.slice(
        padded, (0, top, left, 0), (batch, *limits, padded.shape[-1]), (1, down, right, 1)
    )


convolve.defvjp(_forward, _backward)


def conv_general_dilated(
    images: Array,
    kernel: Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    rhs_dilation: Sequence[int],
    **settings: Any,
) -> Array:
    """`jax.lax.conv_general_dilated` as `flax.linen.Conv` calls it, with `convolve`'s gradients.

    Convolutions with settings that `convolve` does not support, such as groups, are left to XLA.
    """
    if settings != PLAIN:
        return jax.lax.conv_general_dilated(
            images, kernel, window_strides, padding, rhs_dilation=rhs_dilation, **settings
        )
    (top, bottom), (left, right) = padding
    pads = (top, bottom), (left, right)
    return convolve(images, kernel, tuple(window_strides), pads, tuple(rhs_dilation))
