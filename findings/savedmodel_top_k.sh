#!/usr/bin/env bash
# jax 0.10.1 and tensorflow-cpu 2.21.0: a SavedModel with `jax.lax.top_k` is written and does not run.
#
# `jax2tf.convert` takes a function with `top_k`, TensorFlow traces and saves it, and loads it
# again, all without a warning. One would guess that a function that was converted, saved and loaded
# can be called, as a function that finds the same largest numbers by a sort can. The call fails:
# JAX lowers `top_k` to a composite operation of StableHLO 1.14.1, and TensorFlow reads StableHLO up
# to 1.13.7 ("failed to deserialize portable artifact"). The version of the format that jax2tf
# writes is JAX's own; nothing compares it with TensorFlow's when the model is written.
#
# Fails if the call succeeds, if it fails for another reason, or if the sort does not give the numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.1 jaxlib==0.10.1 numpy==2.4.6 tensorflow-cpu==2.21.0
cat > "$folder/convert.py" <<'PYTHON'
import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from jax.experimental import jax2tf

print(f"jax {jax.__version__}, TensorFlow {tf.__version__}")
numbers = np.array([[3.0, 1.0, 2.0]], np.float32)


def loaded(function, path):
    """A function that went through a SavedModel."""
    module = tf.Module()
    signature = [tf.TensorSpec(numbers.shape, tf.float32)]
    module.call = tf.function(jax2tf.convert(function), autograph=False, input_signature=signature)
    tf.saved_model.save(module, str(path))
    return tf.saved_model.load(str(path)).call


folder = pathlib.Path(sys.argv[1])
by_sort = loaded(lambda x: -jnp.sort(-x)[..., :2], folder / "sort")
by_top_k = loaded(lambda x: jax.lax.top_k(x, 2)[0], folder / "top_k")
np.testing.assert_array_equal(by_sort(numbers), [[3.0, 2.0]])
print("by a sort:", by_sort(numbers).numpy())
try:
    found = by_top_k(numbers)
except tf.errors.InvalidArgumentError as error:
    lines = str(error).splitlines()
else:
    sys.exit(f"top_k runs now: {found.numpy()}")
wanted = "failed to deserialize portable artifact using StableHLO"
(line,) = [line for line in lines if wanted in line]
print("by top_k:", line.strip())
PYTHON
"$folder/venv/bin/python" "$folder/convert.py" "$folder"
