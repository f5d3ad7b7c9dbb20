#!/usr/bin/env bash
# jaxlib 0.10.1 on a CPU: the gradient of a convolution by its kernel is far slower than the
# convolution.
#
# The convolution, its gradient by the images and its gradient by the kernel have the same number of
# multiply-adds, so one would guess the same time for each. Seen on two cores of an x86 CPU, 3 x 3,
# 256 channels in and out, [8, 30, 40, 256], dilation 2, float32: 33 ms forward and 34 ms for the
# images, but 181 ms for the kernel. Nine matrix products, one for each position of the kernel, give
# the same gradient in 76 ms. With 64 channels the products gain nothing.
#
# Fails if the gradient by the kernel takes less than 2.5 times the forward pass, or if the products
# are no faster than it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.1 jaxlib==0.10.1 numpy==2.4.6
cat > "$folder/measure.py" <<'PYTHON'
import time

import jax
import jax.numpy as jnp

print(f"jax {jax.__version__} on {jax.default_backend()}")
DILATION = 2
images = jax.random.normal(jax.random.key(0), (8, 30, 40, 256))
kernel = jax.random.normal(jax.random.key(1), (3, 3, 256, 256))


@jax.jit
def convolve(images, kernel):
    pad = ((DILATION, DILATION),) * 2
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), pad, rhs_dilation=(DILATION,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.jit
def by_kernel(images, gradient):
    return jax.linear_transpose(lambda k: convolve(images, k), kernel)(gradient)[0]


@jax.jit
def by_products(images, gradient):
    padded = jnp.pad(images, ((0, 0), (DILATION,) * 2, (DILATION,) * 2, (0, 0)))
    _, height, width, channels = gradient.shape
    products = [
        jnp.einsum(
            "bhwc,bhwm->cm",
            padded[:, a * DILATION : a * DILATION + height, b * DILATION : b * DILATION + width],
            gradient,
        )
        for a in range(3)
        for b in range(3)
    ]
    return jnp.stack(products).reshape(kernel.shape)


def seconds(function, *arguments):
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


gradient = convolve(images, kernel)
native, products = by_kernel(images, gradient), by_products(images, gradient)
assert jnp.allclose(native, products, rtol=1e-3, atol=1e-4 * jnp.abs(native).max())
forward = seconds(convolve, images, kernel)
slow, fast = seconds(by_kernel, images, gradient), seconds(by_products, images, gradient)
print(f"forward {1e3 * forward:.0f} ms, gradient by the kernel {1e3 * slow:.0f} ms,"
      f" as nine products {1e3 * fast:.0f} ms")
assert slow > 2.5 * forward, "the gradient by the kernel is no longer slow"
assert fast < slow, "the products are no faster"
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/measure.py"
