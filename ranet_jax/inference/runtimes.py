"""Exported files in their own runtimes; only `stablehlo` needs JAX."""

import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, UInt8

Labels = UInt8[np.ndarray, "b H W"]
Probabilities = Float32[np.ndarray, "b H W c"]
# From uint8 images [b, H, W, 3] to labels and probabilities.
Runtime = Callable[[np.ndarray], tuple[Labels, Probabilities]]

OUTPUTS = ("labels", "probabilities")
SIGNATURE = "serving_default"


def open_stablehlo(path: pathlib.Path) -> Runtime:
    """A file of `jax.export`, in JAX."""
    import jax
    import jax.export

    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    call = jax.jit(exported.call)

    def run(images: np.ndarray) -> tuple[Labels, Probabilities]:
        labels, probabilities = jax.device_get(call(images))
        return labels, probabilities

    return run


def open_onnx(path: pathlib.Path) -> Runtime:
    """An ONNX file, in ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> tuple[Labels, Probabilities]:
        labels, probabilities = session.run(list(OUTPUTS), {"images": images})
        return labels, probabilities

    return run


def open_savedmodel(path: pathlib.Path) -> Runtime:
    """A SavedModel, in TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: np.ndarray) -> tuple[Labels, Probabilities]:
        outputs = loaded.signatures[SIGNATURE](images=tf.constant(images))
        return outputs["labels"].numpy(), outputs["probabilities"].numpy()

    return run


def open_tflite(path: pathlib.Path) -> Runtime:
    """A TFLite file, in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner(SIGNATURE)

    def run(images: np.ndarray) -> tuple[Labels, Probabilities]:
        outputs = runner(images=images)
        return outputs["labels"], outputs["probabilities"]

    return run
