"""Normalisation of images, the same for NumPy arrays, jax arrays and TensorFlow tensors."""

import dataclasses
from typing import Any

import ml_collections
import numpy as np
from jaxtyping import Float, UInt8

from ranet_jax.config import check_value


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Mean and deviation of the channels (RGB order, units of 0..255) and the network's order."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        for name in ("mean", "std", "channel_order"):
            check_value(f"data.{name}", getattr(self, name))

    @classmethod
    def from_config(cls, data: ml_collections.ConfigDict) -> "Normalization":
        """Read `mean`, `std` and `channel_order` of the `data` section of a config.

        Raises:
          UserError: one of them is out of its range.
        """
        (r, g, b), (dr, dg, db) = data.mean, data.std
        return cls(
            (float(r), float(g), float(b)),
            (float(dr), float(dg), float(db)),
            data.channel_order,
        )

    def __call__(self, images: Any) -> Any:
        """Normalise `[..., H, W, 3]` float32 RGB images with values in 0..255."""
        channels = (1,) * (len(images.shape) - 1) + (3,)
        centred = images - np.asarray(self.mean, np.float32).reshape(channels)
        scaled = centred / np.asarray(self.std, np.float32).reshape(channels)
        return scaled[..., ::-1] if self.channel_order == "bgr" else scaled

    def undo(self, images: Float[np.ndarray, "*b H W 3"]) -> UInt8[np.ndarray, "*b H W 3"]:
        """Turn normalised images back into RGB images in 0..255."""
        rgb = images[..., ::-1] if self.channel_order == "bgr" else images
        return np.clip(np.rint(rgb * self.std + self.mean), 0, 255).astype(np.uint8)
