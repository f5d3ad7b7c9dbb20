#!/usr/bin/env bash
# jaxlib 0.10.1 on a CPU: a depthwise convolution in float64 is hundreds of times slower on a map that
# is smaller than its kernel.
#
# One would guess that fewer pixels take less time. With 672 channels and a 5 x 5 kernel, a map of
# 5 x 5 pixels takes 1 ms, one of 4 x 4 takes 0.5 s. In float32 both take 1 to 2 ms. Such maps occur
# in MobileNetV3 at stride 32, if a small image is given.
#
# Fails if in float64 the smaller map takes less than 20 times as long as the larger one, if in
# float32 it takes more than 20 times as long, or if the middle of a map is not the sum of products.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.1 jaxlib==0.10.1 numpy==2.4.6
cat > "$folder/measure.py" <<'PYTHON'
import time

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
print(f"jax {jax.__version__} on {jax.default_backend()}")
CHANNELS, KERNEL = 672, 5
rng = np.random.default_rng(0)
kernel = rng.normal(size=(KERNEL, KERNEL, 1, CHANNELS))


@jax.jit
def convolve(maps, kernel):
    return jax.lax.conv_general_dilated(
        maps, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=CHANNELS,
    )


def seconds(dtype, side):
    maps = rng.normal(size=(1, side, side, CHANNELS))
    arrays = jax.device_put((maps.astype(dtype), kernel.astype(dtype)))
    found = np.asarray(convolve(*arrays))[0, 2, 2]
    seen = maps[0, : min(side, 5), : min(side, 5)]
    expected = (seen * kernel[: len(seen), : len(seen), 0]).sum((0, 1))
    assert np.allclose(found, expected, atol=1e-3), "the middle is not the sum of products"
    times = []
    for _ in range(5):
        start = time.perf_counter()
        convolve(*arrays).block_until_ready()
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


ratio = {}
for dtype in ("float32", "float64"):
    small, large = seconds(dtype, 4), seconds(dtype, 5)
    ratio[dtype] = small / large
    print(f"{dtype}: 4 x 4 pixels {1e3 * small:.2f} ms, 5 x 5 pixels {1e3 * large:.2f} ms")
assert ratio["float64"] > 20, "the smaller map is no longer much slower in float64"
assert ratio["float32"] < 20, "the smaller map is much slower in float32 too"
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/measure.py"
