"""ONNX: a file for ONNX Runtime and other software that reads ONNX."""

import json
import pathlib
from typing import Any

from ranet_jax.errors import UserError
from ranet_jax.inference.export.format import Format
from ranet_jax.inference.export.program import Program
from ranet_jax.inference.export.quantization import quantize_onnx
from ranet_jax.inference.runtimes import OUTPUTS, open_onnx

# The largest size of a protocol buffer.
MAX_BYTES = 2**31 - 1


def _write(program: Program, description: dict[str, Any], path: pathlib.Path) -> str:
    import onnx

    from ranet_jax.inference.export.onnx_lowering import OPSET, to_onnx

    model = to_onnx(program, program.images(any_batch=False), "images", OUTPUTS)
    onnx.helper.set_model_props(model, {k: _text(value) for k, value in description.items()})
    if model.ByteSize() > MAX_BYTES:
        raise UserError(
            "The network is larger than the 2 GiB of an ONNX file; choose another format."
        )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return f"It uses the operations of ONNX opset {OPSET}."


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


USAGE = """\
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
labels, probabilities = session.run(["labels", "probabilities"], {{"images": images}})
"""

FORMAT = Format(
    "onnx",
    "ONNX Runtime",
    _write,
    open_onnx,
    USAGE,
    suffix=".onnx",
    packages=("onnx", "onnxruntime"),
    extra="onnx",
    any_batch=False,
    holds_description=True,
    region_path="planes",
    quantize=quantize_onnx,
)
