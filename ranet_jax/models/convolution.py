"""Convolutions adapted to CPUs; on other platforms, XLA computes their values and gradients.

On CPUs, XLA computes the gradient of a kernel several times slower than the convolution itself, and
slowest of all for few channels and large images. Here the gradient is computed for one block of
rows after another, each as one matrix product with the pixels that the kernel saw there, which
takes a third to a half of that time.

A depthwise convolution has no matrix products, and XLA takes many times as long for it as for the
same sums of products of whole maps. Here it is written as these sums, and so are its gradients.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LAYOUT = jax.lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))
# What `flax.linen.Conv` passes for a convolution of two axes, apart from the number of groups.
PLAIN = {"lhs_dilation": (1, 1), "dimension_numbers": LAYOUT, "precision": None}
# Approximate number of pixels in a block, chosen so that the pixels that the kernel sees stay in a
# core's cache.
BLOCK_PIXELS = 512

Pairs = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
    images: Float[Array, "b H W c"],
    kernel: Float[Array, "kh kw k m"],
    strides: tuple[int, int],
    padding: Pairs,
    dilation: tuple[int, int],
) -> Float[Array, "b h w m"]:
    """Convolve images like `jax.lax.conv_general_dilated`, with reverse-mode gradients.

    A kernel of several channels [kh, kw, 1, c] is depthwise: it convolves each channel by itself.
    """
    settings = strides, padding, dilation
    if not _is_depthwise(images, kernel):
        return _native(images, kernel, *settings)

    def by_places(images: Array, kernel: Array) -> Array:
        return _sum_of_places(_pad(images, padding), kernel, strides, dilation)

    def by_convolution(images: Array, kernel: Array) -> Array:
        return _native(images, kernel, *settings)

    return jax.lax.platform_dependent(images, kernel, cpu=by_places, default=by_convolution)


def _is_depthwise(images: Array, kernel: Array) -> bool:
    return images.shape[-1] > 1 and kernel.shape[2:] == (1, images.shape[-1])


def _native(images: Array, kernel: Array, *settings: Any) -> Array:
    strides, padding, dilation = settings
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=images.shape[-1] // kernel.shape[2],
    )


def _forward(images: Array, kernel: Array, *settings: Any) -> tuple[Array, tuple[Array, Array]]:
    return convolve(images, kernel, *settings), (images, kernel)


def _backward(
    strides: tuple[int, int],
    padding: Pairs,
    dilation: tuple[int, int],
    saved: tuple[Array, Array],
    gradient: Array,
) -> tuple[Array, Array]:
    settings = strides, padding, dilation
    depthwise = _is_depthwise(*saved)

    def on_cpus(images: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        if depthwise:
            spread = _spread(gradient, images.shape, kernel.shape, settings)
            to_images = _sum_of_places(spread, kernel[::-1, ::-1], (1, 1), dilation)
            to_kernel = _depthwise_kernel_gradient(images, gradient, kernel.shape, settings)
        else:
            to_images = _native_to_images(images, kernel, gradient, settings)
            to_kernel = _kernel_gradient(images, gradient, kernel.shape, settings)
        return to_images, to_kernel.astype(kernel.dtype)

    def elsewhere(images: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        arguments = images, kernel, gradient, settings
        return _native_to_images(*arguments), _native_to_kernel(*arguments)

    return jax.lax.platform_dependent(*saved, gradient, cpu=on_cpus, default=elsewhere)


def _native_to_images(images: Array, kernel: Array, gradient: Array, settings: Any) -> Array:
    """XLA's gradient of the images."""
    (to_images,) = jax.linear_transpose(lambda x: _native(x, kernel, *settings), images)(gradient)
    return to_images


def _native_to_kernel(images: Array, kernel: Array, gradient: Array, settings: Any) -> Array:
    """XLA's gradient of the kernel."""
    (to_kernel,) = jax.linear_transpose(lambda k: _native(images, k, *settings), kernel)(gradient)
    return to_kernel


def _kernel_gradient(
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
    reach = (shape[0] - 1) * dilation[0]
    padded = _pad(images, padding)
    missing = (blocks * rows - 1) * strides[0] + reach + 1 - padded.shape[1]
    padded = jnp.pad(padded, ((0, 0), (0, max(0, missing)), (0, 0), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0)))
    span = (rows - 1) * strides[0] + reach + 1
    exact = _sum_dtype(gradient)

    def add(total: Array, number: Array) -> tuple[Array, None]:
        first, row = number // blocks * group, number % blocks * rows
        below = jax.lax.dynamic_slice_in_dim(gradient, first, group)
        below = jax.lax.dynamic_slice_in_dim(below, row, rows, axis=1)
        seen = jax.lax.dynamic_slice_in_dim(padded, first, group)
        seen = jax.lax.dynamic_slice_in_dim(seen, row * strides[0], span, axis=1)
        places = [
            _strided(seen, start, (rows, width), strides) for _, start in _places(shape, dilation)
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


def _sum_of_places(
    padded: Float[Array, "b H W c"],
    kernel: Float[Array, "kh kw 1 c"],
    strides: tuple[int, int],
    dilation: tuple[int, int],
) -> Float[Array, "b h w c"]:
    """A depthwise convolution: the weighted sum of what the places of the kernel see."""
    exact = _sum_dtype(padded)
    reach = [(size - 1) * by for size, by in zip(kernel.shape[:2], dilation, strict=True)]
    height, width = (
        (size - reached - 1) // stride + 1
        for size, reached, stride in zip(padded.shape[1:3], reach, strides, strict=True)
    )
    total = jnp.zeros((1, 1, 1, 1), exact)
    for (y, x), start in _places(kernel.shape, dilation):
        seen = _strided(padded, start, (height, width), strides).astype(exact)
        total = total + seen * kernel[y : y + 1, x : x + 1].astype(exact)
    return total.astype(padded.dtype)


def _spread(
    gradient: Float[Array, "b h w c"],
    images: tuple[int, ...],
    kernel: tuple[int, ...],
    settings: tuple[tuple[int, int], Pairs, tuple[int, int]],
) -> Array:
    """The gradient with zeros between and around its pixels.

    Convolved with the reversed kernel, without padding and stride, it gives the gradient of images
    of the given shape.
    """
    edges = [(0, 0, 0)]
    for axis, (stride, (before, _), dilation) in enumerate(zip(*settings, strict=True)):
        reach = (kernel[axis] - 1) * dilation
        first = reach - before
        size = (gradient.shape[axis + 1] - 1) * stride + 1
        edges.append((first, images[axis + 1] + reach - first - size, stride - 1))
    return jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), (*edges, (0, 0, 0)))


def _depthwise_kernel_gradient(
    images: Float[Array, "b H W c"],
    gradient: Float[Array, "b h w c"],
    shape: tuple[int, ...],
    settings: tuple[tuple[int, int], Pairs, tuple[int, int]],
) -> Float[Array, "kh kw 1 c"]:
    """The kernel's gradient, in float32 or better: the sum over rows of outputs."""
    strides, padding, dilation = settings
    _, height, width, channels = gradient.shape
    padded, exact = _pad(images, padding), _sum_dtype(gradient)
    places = _places(shape, dilation)

    def add(totals: list[Array], row: Array) -> tuple[list[Array], None]:
        below = jax.lax.dynamic_slice_in_dim(gradient, row, 1, axis=1).astype(exact)
        sums = []
        for total, (_, (top, left)) in zip(totals, places, strict=True):
            seen = jax.lax.dynamic_slice_in_dim(padded, row * strides[0] + top, 1, axis=1)
            seen = _strided(seen, (0, left), (1, width), strides).astype(exact)
            sums.append(total + jnp.sum(seen * below, axis=(0, 1)))
        return sums, None

    start = [jnp.zeros((width, channels), exact) for _ in places]
    totals, _ = jax.lax.scan(add, start, jnp.arange(height))
    return jnp.stack([total.sum(0) for total in totals]).reshape(shape)


convolve.defvjp(_forward, _backward)


def _sum_dtype(array: Array) -> Any:
    """The dtype of sums over an array: float32 or better."""
    return jnp.float64 if array.dtype == jnp.float64 else jnp.float32


def _pad(images: Array, padding: Pairs) -> Array:
    return jnp.pad(images, ((0, 0), *padding, (0, 0)))


def _places(
    kernel: tuple[int, ...], dilation: tuple[int, int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Every place (y, x) of a kernel, with the first pixel of the padded images that it sees."""
    places = itertools.product(range(kernel[0]), range(kernel[1]))
    return [((y, x), (y * dilation[0], x * dilation[1])) for y, x in places]


def _strided(
    padded: Array, start: tuple[int, int], size: tuple[Any, Any], strides: tuple[int, int]
) -> Array:
    """The padded pixels that one place of the kernel sees, one for each of [height, width] outputs.

    The sizes are symbolic in a program for images of any size.
    """
    (top, left), (height, width), (down, right) = start, size, strides
    limits = top + (height - 1) * down + 1, left + (width - 1) * right + 1
    batch, _, _, channels = padded.shape
    return jax.lax.slice(padded, (0, top, left, 0), (batch, *limits, channels), (1, down, right, 1))


def conv_general_dilated(
    images: Array,
    kernel: Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    rhs_dilation: Sequence[int],
    feature_group_count: int,
    **settings: Any,
) -> Array:
    """`jax.lax.conv_general_dilated` as `flax.linen.Conv` calls it, adapted to CPUs.

    Convolutions that are neither without groups nor depthwise, and those with settings that
    `flax.linen.Conv` does not pass for images, are left to XLA.
    """
    if settings != PLAIN or not (feature_group_count == 1 or _is_depthwise(images, kernel)):
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            window_strides,
            padding,
            rhs_dilation=rhs_dilation,
            feature_group_count=feature_group_count,
            **settings,
        )
    (top, bottom), (left, right) = padding
    pads = (top, bottom), (left, right)
    return convolve(images, kernel, tuple(window_strides), pads, tuple(rhs_dilation))
