"""Random images to time a network on, and parts of the network that are timed alone."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ranet_jax.models import build_model
from ranet_jax.pipeline.batching import Batch


def without_context(config: ConfigDict) -> ConfigDict:
    """The same experiment without a context block."""
    plain = config.copy_and_resolve_references()
    plain.model.context = "none"
    return plain


def random_batch(config: ConfigDict, num_classes: int) -> Batch:
    """Noise for images, and random labels."""
    rng = np.random.default_rng(0)
    size = (config.train.batch_size, *config.data.crop_size)
    return {
        "image": rng.normal(size=(*size, 3)).astype(np.float32),
        "label": rng.integers(0, num_classes, size).astype(np.uint8),
    }


def random_convolution(config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """Feature maps [b, h, w, m] as the context block has them, and a kernel [3, 3, m, m]."""
    size, channels = config.data.crop_size, config.model.channels
    height, width = (-(-side // config.model.output_stride) for side in size)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(config.train.batch_size, height, width, channels))
    kernel = rng.normal(size=(3, 3, channels, channels))
    return features.astype(np.float32), kernel.astype(np.float32)


def build_convolution(features: np.ndarray, kernel: np.ndarray) -> Callable[[Batch], None]:
    """One convolution alone, without gradients; the batch is ignored."""
    convolve = jax.jit(
        lambda maps, weights: jax.lax.conv_general_dilated(
            maps, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    arrays = jax.device_put((features, kernel))

    def convolution(batch: Batch) -> None:
        jax.block_until_ready(convolve(*arrays))

    return convolution


def build_scores(config: ConfigDict, num_classes: int, variables: Any) -> Callable[[Batch], None]:
    """The score maps of a config's network in training mode alone, without gradients."""
    model = build_model(config, num_classes)

    @jax.jit
    def apply(images: jax.Array) -> Any:
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    def scores(batch: Batch) -> None:
        jax.block_until_ready(apply(batch["image"]))

    return scores
