"""Small models to export, with numbers as large as those of trained models."""

import dataclasses

import jax
import numpy as np

from helpers.fakes import DATASET, brightest_channel_model
from ranet_jax.inference.model import Model
from ranet_jax.models import build_model


def even_variables(module, seed=0):
    """Random variables that keep features and scores about as large as the image's values."""
    images = jax.ShapeDtypeStruct((1, 33, 33, 3), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.PRNGKey(0), images)
    generator = np.random.default_rng(seed)

    def draw(path, array):
        name, shape = path[-1].key, array.shape
        if name in ("scale", "var"):
            values = generator.uniform(0.5, 1.5, shape)
        elif name == "kernel":
            values = generator.normal(0, (0.7 / np.prod(shape[:-1])) ** 0.5, shape)
        else:
            values = generator.normal(0, 0.1, shape)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def small_model(config, seed=0):
    module = build_model(config, DATASET.num_classes)
    return Model(config, module, even_variables(module, seed), DATASET, step=7)


def brightest(region_path=None):
    """`brightest_channel_model` with the region path that a format asks for.

    Its images may have any number of pixels.
    """
    model = brightest_channel_model()
    model.settings = dataclasses.replace(model.settings, max_pixels=None)
    if region_path is not None:
        model.config.model.region_path = region_path
    return model
