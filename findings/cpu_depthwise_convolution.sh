#!/usr/bin/env bash
# jaxlib 0.10.1 on a CPU: a depthwise convolution takes many times as long as the products and sums that
# it consists of.
#
# It is nine multiply-adds for each number of the result, so one would guess the time of reading and
# writing the maps. Seen on two cores of an x86 CPU, 3 x 3, [4, 30, 40, 384], dilation 2, float32: 44 ms,
# but 4 ms for nine shifted maps, each times its place of the kernel, added up. The gradient of the
# kernel takes 110 ms, and 2 ms as a scan that adds up the products of one row of pixels after another.
# Summed over all pixels at once, the same products take 39 ms.
#
# Fails if the convolution takes less than four times as long as the shifted maps, if its gradient takes
# less than four times as long as the scan, or if the values differ.
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
import numpy as np

print(f"jax {jax.__version__} on {jax.default_backend()}")
HEIGHT, WIDTH, CHANNELS, DILATION = 30, 40, 384, 2
PLACES = [(DILATION * y, DILATION * x) for y in range(3) for x in range(3)]
rng = np.random.default_rng(0)
images = rng.normal(size=(4, HEIGHT, WIDTH, CHANNELS)).astype(np.float32)
gradient = rng.normal(size=images.shape).astype(np.float32)
kernel = rng.normal(size=(3, 3, 1, CHANNELS)).astype(np.float32)
images, gradient, kernel = jax.device_put((images, gradient, kernel))


def padded(images):
    return jnp.pad(images, ((0, 0), (DILATION,) * 2, (DILATION,) * 2, (0, 0)))


@jax.jit
def convolve(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), ((DILATION,) * 2,) * 2, rhs_dilation=(DILATION,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=CHANNELS,
    )


@jax.jit
def shifted(images, kernel):
    seen = padded(images)
    weights = kernel.reshape(9, CHANNELS)
    return sum(
        seen[:, top : top + HEIGHT, left : left + WIDTH] * weights[place]
        for place, (top, left) in enumerate(PLACES)
    )


@jax.jit
def by_kernel(images, gradient):
    return jax.linear_transpose(lambda k: convolve(images, k), kernel)(gradient)[0]


@jax.jit
def at_once(images, gradient):
    seen = padded(images)
    products = [seen[:, a : a + HEIGHT, b : b + WIDTH] * gradient for a, b in PLACES]
    return jnp.stack([product.sum((0, 1, 2)) for product in products]).reshape(kernel.shape)


@jax.jit
def by_rows(images, gradient):
    seen = padded(images)

    def add(sums, row):
        below = jax.lax.dynamic_index_in_dim(gradient, row, 1, keepdims=False)
        above = [jax.lax.dynamic_index_in_dim(seen, row + a, 1, keepdims=False) for a, _ in PLACES]
        return [
            total + (line[:, b : b + WIDTH] * below).sum(0)
            for total, line, (_, b) in zip(sums, above, PLACES)
        ], None

    sums, _ = jax.lax.scan(add, [jnp.zeros((WIDTH, CHANNELS))] * 9, jnp.arange(HEIGHT))
    return jnp.stack([total.sum(0) for total in sums]).reshape(kernel.shape)


def seconds(function, *arguments):
    function(*arguments).block_until_ready()
    times = []
    for _ in range(7):
        start = time.perf_counter()
        function(*arguments).block_until_ready()
        times.append(time.perf_counter() - start)
    return sorted(times)[3]


forward = {f.__name__: seconds(f, images, kernel) for f in (convolve, shifted)}
backward = {f.__name__: seconds(f, images, gradient) for f in (by_kernel, at_once, by_rows)}
for name, time_taken in (forward | backward).items():
    print(f"{name}: {1e3 * time_taken:.1f} ms")
assert np.allclose(convolve(images, kernel), shifted(images, kernel), atol=1e-4)
for function in (at_once, by_rows):
    assert np.allclose(by_kernel(images, gradient), function(images, gradient), atol=1e-2)
assert forward["convolve"] > 4 * forward["shifted"], "the convolution is no longer slow"
assert backward["by_kernel"] > 4 * backward["by_rows"], "the gradient is no longer slow"
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/measure.py"
