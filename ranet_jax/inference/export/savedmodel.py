"""SavedModel: a directory for TensorFlow, by `jax2tf`."""

import json
import os
import pathlib
from typing import Any

import numpy as np

from ranet_jax.inference.export.format import Format, Labels, Probabilities, Runtime
from ranet_jax.inference.export.program import Program
from ranet_jax.inference.export.rewriting import rewritten, top_k_by_sorting
from ranet_jax.inference.export.stablehlo import any_batch, lowered_platforms, remark

DESCRIPTION = "description.json"


def _write(program: Program, description: dict[str, Any], path: pathlib.Path) -> str:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from jax.experimental import jax2tf

    # TensorFlow 2.21 does not read what JAX 0.10 makes of `top_k`.
    function = rewritten(program, {"top_k": top_k_by_sorting})
    platforms = lowered_platforms(function, program.images(any_batch()))
    converted = jax2tf.convert(
        function,
        polymorphic_shapes=["(b, ...)"],
        with_gradient=False,
        native_serialization_platforms=platforms,
    )

    def segment(images: Any) -> dict[str, Any]:
        labels, probabilities = converted(images)
        return {"labels": labels, "probabilities": probabilities}

    module = tf.Module()
    images = tf.TensorSpec((None, *program.size, 3), tf.uint8, name="images")
    module.segment = tf.function(segment, input_signature=[images], autograph=False)
    path.mkdir(parents=True)
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": module.segment.get_concrete_function()}
    )
    assets = path / "assets.extra"
    assets.mkdir()
    (assets / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return remark(platforms)


def _open(path: pathlib.Path) -> Runtime:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: np.ndarray) -> tuple[Labels, Probabilities]:
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return outputs["labels"].numpy(), outputs["probabilities"].numpy()

    return run


FORMAT = Format(
    "savedmodel",
    "TensorFlow",
    _write,
    _open,
    packages=("tensorflow",),
    extra="data",
    holds_description=True,
)
