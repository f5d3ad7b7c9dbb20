"""A network whose scores are an image's channels, and images for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from helpers.fakes import halves
from ranet_jax.models import Outputs

VARIABLES = {"params": {"gain": np.float32(1)}, "batch_stats": {}}


@functools.partial(jax.jit, static_argnames="with_regions")
def brightest(variables, images, with_regions=False):
    """Fine scores are the channels; coarse scores are the channels of the pixel to the right.

    The boundary is where green outshines red; the two regions are left and right of the middle.
    """
    scores = images * variables["params"]["gain"]
    return Outputs(
        fine=scores,
        coarse=jnp.roll(scores, -1, axis=2),
        boundary=scores[..., :2],
        regions=halves(scores) if with_regions else None,
    )


def examples(count, size=(6, 5), seed=0):
    generator = np.random.default_rng(seed)
    images = generator.normal(0, 1, (count, *size, 3)).astype(np.float32)
    labels = generator.integers(0, 3, (count, *size)).astype(np.uint8)
    labels[generator.random(labels.shape) < 0.1] = 255
    return images, labels
