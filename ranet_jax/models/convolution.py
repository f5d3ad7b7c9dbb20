"""Convolution whose kernel gradient is made for the platform it runs on.

XLA's CPU convolution takes the gradient of a kernel several times slower than the convolution
itself. As matrix products, one a position of the kernel, it takes a half to a third of that time
where the channels are many (`MIN_CHANNELS`). Values and other platforms are XLA's own.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LAYOUT = jax.lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))
# What `flax.linen.Conv` passes on for a convolution of two axes without groups.
PLAIN = {
    "lhs_dilation": (1, 1),
    "dimension_numbers": LAYOUT,
    "feature_group_count": 1,
    "precision": None,
}
# Input channels from which on the products are faster.
MIN_CHANNELS = 128

Pairs = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
    images: Float[Array, "b H W c"],
    kernel: Float[Array, "kh kw c m"],
    strides: tuple[int, int],
    padding: Pairs,
    dilation: tuple[int, int],
) -> Float[Array, "b h w m"]:
    """Convolve images, as `jax.lax.conv_general_dilated` does, with reverse-mode gradients."""
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
        padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
        rows = gradient.reshape(-1, gradient.shape[-1])
        products = []
        for a in range(kernel.shape[0]):
            for b in range(kernel.shape[1]):
                seen = _strided(padded, (a * dilation[0], b * dilation[1]), gradient, strides)
                products.append(seen.reshape(-1, images.shape[-1]).T @ rows)
        return jnp.stack(products).reshape(kernel.shape)

    if images.shape[-1] < MIN_CHANNELS:
        return to_images, by_convolution(images, gradient)
    to_kernel = jax.lax.platform_dependent(
        images, gradient, cpu=by_products, default=by_convolution
    )
    return to_images, to_kernel


def _strided(
    padded: Array, start: tuple[int, int], outputs: Array, strides: tuple[int, int]
) -> Array:
    """The padded pixels that one position of the kernel sees, a pixel an output."""
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

    What has other settings than `convolve` knows, such as groups, is left to XLA.
    """
    if settings != PLAIN:
        return jax.lax.conv_general_dilated(
            images, kernel, window_strides, padding, rhs_dilation=rhs_dilation, **settings
        )
    (top, bottom), (left, right) = padding
    pads = (top, bottom), (left, right)
    return convolve(images, kernel, tuple(window_strides), pads, tuple(rhs_dilation))
