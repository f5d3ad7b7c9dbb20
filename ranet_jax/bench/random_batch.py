"""What a network is timed on: random images, and its score maps alone."""

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


def build_scores(config: ConfigDict, num_classes: int, variables: Any) -> Callable[[Batch], None]:
    """The score maps of a config's network in training mode alone, without gradients."""
    model = build_model(config, num_classes)

    @jax.jit
    def apply(images: jax.Array) -> Any:
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    def scores(batch: Batch) -> None:
        jax.block_until_ready(apply(batch["image"]))

    return scores
