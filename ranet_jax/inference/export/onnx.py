"""ONNX: a file for ONNX Runtime and whatever else reads it."""

import json
import pathlib
from typing import Any

import numpy as np

from ranet_jax.errors import UserError
from ranet_jax.inference.export.format import Format, Labels, Probabilities, Runtime
from ranet_jax.inference.export.program import Program

NAMES = ("labels", "probabilities")
# What protocol buffers hold.
MAX_BYTES = 2**31 - 1


def _write(program: Program, description: dict[str, Any], path: pathlib.Path) -> str:
    import onnx

    from ranet_jax.inference.export.onnx_lowering import OPSET, to_onnx

    model = to_onnx(program, program.images(), "images", NAMES)
    onnx.helper.set_model_props(model, {k: _text(value) for k, value in description.items()})
    if model.ByteSize() > MAX_BYTES:
        raise UserError(
            "The network is larger than the 2 GiB of an ONNX file; choose another format."
        )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return f"Its operations are those of ONNX opset {OPSET}."


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _open(path: pathlib.Path) -> Runtime:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> tuple[Labels, Probabilities]:
        labels, probabilities = session.run(list(NAMES), {"images": images})
        return labels, probabilities

    return run


FORMAT = Format(
    "onnx",
    "ONNX Runtime",
    _write,
    _open,
    suffix=".onnx",
    packages=("onnx", "onnxruntime"),
    extra="onnx",
    any_batch=False,
    holds_description=True,
    region_path="planes",
)
