"""A segmenter small enough to work out by hand, and a model of it."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ranet_jax import ops
from ranet_jax.config import default_config
from ranet_jax.inference.model import Model
from ranet_jax.models import Outputs, Regions
from ranet_jax.pipeline.metadata import DatasetMetadata

DATASET = DatasetMetadata(
    name="colours",
    class_names=("red", "green", "blue"),
    palette=((200, 0, 0), (0, 200, 0), (0, 0, 200)),
)


class BrightestChannel(nn.Module):
    """Fine scores are the image's channels at every other pixel; coarse scores reverse them.

    Its two regions are the feature pixels left and right of the middle column.
    """

    on_trace: Callable | None = None

    @nn.compact
    def __call__(self, images, train=False, with_regions=False):
        if self.on_trace is not None:
            self.on_trace(images.shape)
        fine = self.param("gain", nn.initializers.ones, ()) * images[:, ::2, ::2]
        regions = halves(fine) if with_regions else None
        return Outputs(fine=fine, coarse=fine[..., ::-1], boundary=fine[..., :2], regions=regions)


def halves(scores):
    """The regions of score maps that are divided in the middle column."""
    batch, height, width, _ = scores.shape
    columns = jnp.arange(height * width) % width
    labels = jnp.where(columns < (width + 1) // 2, 0, (width + 1) // 2)
    roots = jnp.array([0, (width + 1) // 2 if width > 1 else -1])
    indices = jnp.maximum(roots, 0)[:, None]

    def tile(x):
        return jnp.broadcast_to(jnp.asarray(x)[None], (batch, *jnp.shape(x)))

    representatives = ops.Representatives(tile(roots), tile(indices), tile((roots >= 0)[:, None]))
    return Regions(tile(labels), tile(jnp.ones(labels.shape)), representatives)


def brightest_channel_model(on_trace=None):
    config = default_config()
    config.data.mean = (0.0, 0.0, 0.0)
    config.data.std = (1.0, 1.0, 1.0)
    module = BrightestChannel(on_trace)
    variables = BrightestChannel().init(jax.random.PRNGKey(0), jnp.zeros((1, 8, 8, 3)))
    return Model(config, module, jax.tree.map(np.asarray, variables), DATASET)


def random_variables(module, seed=0):
    """Variables of a module as NumPy noise: nothing needs to be compiled for them."""
    images = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.PRNGKey(0), images)
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.abs(generator.normal(0, 0.3, x.shape)).astype(np.float32), shapes
    )


def primary_image(height, width, seed=0):
    """A uint8 image whose pixels are pure red, green or blue at random."""
    classes = np.random.default_rng(seed).integers(0, 3, (height, width))
    return (255 * np.eye(3)[classes]).astype(np.uint8)


def batched(images, labels, batch_size):
    """Batches of one size, the last one padded with labels that would count if not masked."""
    for start in range(0, len(images), batch_size):
        part, truth = images[start : start + batch_size], labels[start : start + batch_size]
        padding = batch_size - len(part)
        yield {
            "image": np.pad(part, ((0, padding), (0, 0), (0, 0), (0, 0))),
            "label": np.pad(truth, ((0, padding), (0, 0), (0, 0))),
            "mask": np.arange(batch_size) < len(part),
        }


def counted(predictions, labels):
    confusion = np.zeros((3, 3), np.int64)
    for truth, chosen in zip(labels.ravel(), predictions.ravel(), strict=True):
        if truth != 255:
            confusion[truth, chosen] += 1
    return confusion
