"""ONNX models of traced programs."""

from ranet_jax.inference.export.onnx_lowering.lower import OPSET, to_onnx

__all__ = ["OPSET", "to_onnx"]
