"""ranet_jax: Region Attention Network (NeurIPS 2020) and semantic segmentation in JAX.

Two lines from a trained model to a prediction:

    model = ranet_jax.load("runs/demo")  # a working directory or an exported model
    result = model.predict(image)        # uint8 [H, W, 3]

To load a model from the Hugging Face hub, use `from_pretrained` instead of `load`.

One more line exports the model to a file for another runtime:

    ranet_jax.export(model, "demo.onnx", "onnx", size=(256, 512))
"""

import importlib
from typing import Any

__all__ = [
    *("Model", "Prediction", "export", "from_pretrained", "load"),
    *("push_to_hub", "save_pretrained"),
]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import each name at its first use, so that `ranet_jax.ops` imports only jax."""
    if name == "export":
        return importlib.import_module("ranet_jax.inference.export").export
    if name in ("Model", "Prediction", "load"):
        return getattr(importlib.import_module("ranet_jax.inference.model"), name)
    if name in __all__:
        return getattr(importlib.import_module("ranet_jax.hub"), name)
    if name in ("ops", "porting", "testing"):
        return importlib.import_module(f"ranet_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
