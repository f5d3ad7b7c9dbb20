"""A process that times one exported file, and cannot import JAX unless its runtime is JAX.

    python -m ranet_jax.bench.runtime_process FORMAT FILE IMAGES.npy REPEATS

prints, as JSON, the seconds from loading the runtime and the file to the end of the first
prediction, and the seconds of each further one. FORMAT `predict` is `Model.predict` of a run.
"""

import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ranet_jax.inference import runtimes


def open_predict(path: pathlib.Path) -> runtimes.Runtime:
    """`Model.predict` of a run in one pass over the whole image, as in exports."""
    from ranet_jax.inference.export.program import whole_image_model
    from ranet_jax.inference.model import load

    model = whole_image_model(load(path))

    def run(images: np.ndarray) -> tuple[runtimes.Labels, runtimes.Probabilities]:
        (prediction,) = model.predict(images, with_regions=False)
        return prediction.labels[None], prediction.probabilities[None]

    return run


OPENERS: dict[str, Callable[[pathlib.Path], runtimes.Runtime]] = {
    "predict": open_predict,
    "stablehlo": runtimes.open_stablehlo,
    "onnx": runtimes.open_onnx,
    "savedmodel": runtimes.open_savedmodel,
    "tflite": runtimes.open_tflite,
}
# Formats that need JAX. TensorFlow imports JAX if it is installed, and does without it if not.
OF_JAX = ("predict", "stablehlo")


def main(name: str, path: str, images: str, repeats: str) -> None:
    """Time the file and print the seconds."""
    if name not in OF_JAX:
        modules: dict[str, Any] = sys.modules
        modules["jax"] = None  # importing it raises an error
    batch = np.load(images)
    start = time.perf_counter()
    run = OPENERS[name](pathlib.Path(path))
    run(batch)
    first = time.perf_counter() - start
    seconds = []
    for _ in range(int(repeats)):
        start = time.perf_counter()
        run(batch)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"first_seconds": first, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
