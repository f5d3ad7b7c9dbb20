"""Comparison of what an exported file computes in its own runtime with `Model.predict`."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from ranet_jax.inference.export.quantization import EXACT, Bound
from ranet_jax.inference.model import Model
from ranet_jax.inference.runtimes import Runtime

NUM_IMAGES = 2
# Sizes of the images if no size is given.
SIZES = ((33, 46), (97, 64))


@dataclass(frozen=True)
class Comparison:
    """How far the results of a runtime are from those of `Model.predict`.

    Attributes:
      probabilities: largest difference; infinite if there are NaNs or the shapes differ.
      labels: share of the pixels with a different label.
    """

    probabilities: float
    labels: float

    def passes(self, bound: Bound = EXACT) -> bool:
        """Whether both differences are within a bound."""
        return self.probabilities <= bound.probabilities and self.labels <= bound.labels


def compare(
    model: Model, runtime: Runtime, size: tuple[int, int] | None, any_batch: bool
) -> Comparison:
    """Run the images of `scenes` both ways, as one batch if the runtime takes any batch.

    Without a size, images of several sizes are run, one size after another.
    """
    found = [_compare(model, runtime, each, any_batch) for each in ([size] if size else SIZES)]
    return Comparison(max(each.probabilities for each in found), max(each.labels for each in found))


def _compare(model: Model, runtime: Runtime, size: tuple[int, int], any_batch: bool) -> Comparison:
    images = scenes(NUM_IMAGES, size)
    expected = [model.predict(image, with_regions=False) for image in images]
    batches = [images] if any_batch else np.split(images, len(images))
    results = [runtime(batch) for batch in batches]
    labels, probabilities = (np.concatenate(parts) for parts in zip(*results, strict=True))
    wanted = np.stack([each.probabilities for each in expected])
    if probabilities.shape != wanted.shape or labels.shape != wanted.shape[:3]:
        return Comparison(np.inf, 1.0)
    difference = float(np.max(np.abs(probabilities - wanted)))
    differing = labels != np.stack([each.labels for each in expected])
    # NaN can get lost in comparisons, which are all False for it; infinity cannot.
    return Comparison(np.inf if np.isnan(difference) else difference, float(np.mean(differing)))


def scenes(count: int, size: tuple[int, int], seed: int = 0) -> UInt8[np.ndarray, "b H W 3"]:
    """Images like photographs: smooth light, patches with sharp edges, and fine grain."""
    generator = np.random.default_rng(seed)
    return np.stack([_scene(generator, *size) for _ in range(count)])


def _scene(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    rows, columns = (
        np.linspace(0, 1, height)[:, None, None],
        np.linspace(0, 1, width)[None, :, None],
    )
    waves = generator.uniform(-3, 3, (2, 3)), generator.uniform(0, 2 * np.pi, 3)
    image = 110 + 60 * np.sin(np.pi * (waves[0][0] * rows + waves[0][1] * columns) + waves[1])
    for _ in range(12):
        top, left, high, wide = generator.uniform(0, (1, 1, 0.5, 0.5))
        inside = (abs(rows - top) < high / 2) & (abs(columns - left) < wide / 2)
        texture = 25 * np.sin(
            generator.uniform(20, 90) * (rows + generator.uniform(-1, 1) * columns)
        )
        image = np.where(inside, generator.uniform(20, 235, 3) + texture, image)
    grain = generator.normal(0, 6, image.shape)
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)
