"""A small network with random weights that divides images into regions, and its explorer."""

import jax
import numpy as np

from helpers.fakes import random_variables
from helpers.small_models import small_config
from ranet_jax.inference.explorer.application import Explorer
from ranet_jax.inference.explorer.library import Library
from ranet_jax.inference.explorer.scene import Observer
from ranet_jax.inference.model import Model
from ranet_jax.models import build_model
from ranet_jax.models.context import BLOCKS
from ranet_jax.pipeline.metadata import DatasetMetadata

DATASET = DatasetMetadata(
    "three", ("sky", "road", "tree"), ((90, 150, 220), (128, 64, 128), (60, 140, 40))
)
SIZE = (56, 72)
BOUNDARY_BIAS, CATEGORY_SCALE = 1.0, 3.0


def explored_model(context="ranet", **settings) -> Model:
    """A model with random weights and scores far enough apart for some pixels to be linked."""
    block = next(b for b in BLOCKS if b.name == context and b.variant in (None, "paper"))
    config = small_config(block, output_stride=8, stages=2, **settings)
    module = build_model(config, DATASET.num_classes)
    variables = _spread(random_variables(module))
    if context == "ranet":  # boundaries at the edges of tiles, and categories that differ
        rcb = variables["params"]["context"]["rcb"]
        rcb["boundary_logit"]["bias"] = np.array([BOUNDARY_BIAS, 0], np.float32)
        rcb["semantic_logit"]["kernel"] *= CATEGORY_SCALE
    return Model(config, module, variables, DATASET, step=7)


def _spread(variables):
    """Weights that keep the scale of the features from layer to layer."""
    rng = np.random.default_rng(3)

    def value(path, like):
        name = path[-1].key
        if name == "kernel":
            scale = np.sqrt(2 / np.prod(like.shape[:-1]))
            return rng.normal(0, scale, like.shape).astype(np.float32)
        return np.full_like(like, name in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(value, variables)


def explored_image(seed=0):
    """Large tiles of random colours, uint8 [56, 72, 3]."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (3, 4, 3), np.uint8)
    height, width = SIZE
    return np.kron(tiles, np.ones((20, 20, 1), np.uint8))[:height, :width]


def explorer_of(model, files=(), split=None):
    return Explorer(Library(Observer(model), files, split), "a model")
