"""SavedModel: a directory for TensorFlow, by `jax2tf`."""

import json
import os
import pathlib
from typing import Any

from ranet_jax.inference.export.format import Format
from ranet_jax.inference.export.program import Program
from ranet_jax.inference.export.rewriting import rewritten, top_k_by_sorting
from ranet_jax.inference.export.stablehlo import PLATFORMS, REMARK
from ranet_jax.inference.runtimes import SIGNATURE, open_savedmodel

DESCRIPTION = "description.json"


def _write(program: Program, description: dict[str, Any], path: pathlib.Path) -> str:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # oneDNN prints a notice in spite of the level, and does not run what XLA compiles.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf
    from jax.experimental import jax2tf

    # TensorFlow 2.21 cannot read what JAX 0.10 writes for `top_k`.
    function = rewritten(program, {"top_k": top_k_by_sorting})
    images = program.images(any_batch=True)
    converted = jax2tf.convert(
        function,
        polymorphic_shapes=[str(images.shape)],
        polymorphic_constraints=program.constraints,
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )

    def segment(images: Any) -> dict[str, Any]:
        labels, probabilities = converted(images)
        return {"labels": labels, "probabilities": probabilities}

    module = tf.Module()
    shape = (None, *(program.size or (None, None)), 3)
    signature = [tf.TensorSpec(shape, tf.uint8, name="images")]
    module.segment = tf.function(segment, input_signature=signature, autograph=False)
    path.mkdir(parents=True)
    tf.saved_model.save(
        module, str(path), signatures={SIGNATURE: module.segment.get_concrete_function()}
    )
    assets = path / "assets.extra"
    assets.mkdir()
    (assets / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return REMARK


USAGE = """\
import tensorflow as tf

segment = tf.saved_model.load("{file}").signatures["serving_default"]
outputs = segment(images=tf.constant(images))  # "labels" and "probabilities"
"""

FORMAT = Format(
    "savedmodel",
    "TensorFlow",
    _write,
    open_savedmodel,
    USAGE,
    packages=("tensorflow",),
    extra="data",
    any_size=True,
    holds_description=True,
)
