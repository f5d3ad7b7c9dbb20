"""Exports with smaller weights: in 8 bits by a runtime's own tools, in half precision elsewhere."""

import contextlib
import dataclasses
import io
import logging
import pathlib
from collections.abc import Iterator

import jax
import numpy as np

from ranet_jax.inference.export.program import Program


@dataclasses.dataclass(frozen=True)
class Bound:
    """How far the results of an export may be from those of `Model.predict`.

    Attributes:
      probabilities: largest difference of a probability.
      labels: share of the pixels with a different label.
    """

    probabilities: float
    labels: float


# Without quantisation only rounding differs, which can decide between two equally probable
# categories.
EXACT = Bound(1e-4, 1e-3)
BOUNDS = {"float16": Bound(0.05, 0.01), "int8": Bound(0.25, 0.05)}


def with_half_kernels(program: Program) -> Program:
    """The program with kernels stored in half precision, which it converts when it runs."""

    def halve(array: np.ndarray) -> np.ndarray:
        return np.asarray(array, np.float16) if np.ndim(array) > 1 else array

    model = program.model.copy(variables=jax.tree.map(halve, program.model.variables))
    return dataclasses.replace(program, model=model)


def quantize_onnx(path: pathlib.Path) -> None:
    """Reduce the kernels of an ONNX file to 8 bits, with ONNX Runtime's dynamic quantisation."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name(f"{path.name}.whole")
    path.rename(whole)
    try:
        with _quiet():
            quantize_dynamic(
                whole, path, op_types_to_quantize=["Conv"], weight_type=QuantType.QUInt8
            )
    finally:
        whole.unlink()


def quantize_tflite(path: pathlib.Path) -> None:
    """Reduce the kernels of a TFLite file to 8 bits, with LiteRT's quantizer."""
    from ai_edge_quantizer import quantizer, recipe

    with _quiet():
        quantized = quantizer.Quantizer(str(path), recipe.weight_only_wi8_afp32()).quantize()
    assert quantized.quantized_model is not None
    path.write_bytes(quantized.quantized_model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress messages of the tools from the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
