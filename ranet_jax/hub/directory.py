"""The directory of a published model.

It holds `model.safetensors` (the weights in this package's own names), `config.json` (the rest of
the model: the experiment's config, the data set's classes, the step), `README.md` (the model card),
`manifest.json` (checksums of the other files) and, if there is a picture, `picture.png`.
"""

import importlib.metadata
import os
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from ranet_jax.checkpoints.manifests import MANIFEST, write_manifest
from ranet_jax.config import config_to_json
from ranet_jax.files import new_directory, paths, write_json, write_text
from ranet_jax.hub.card import Card, write_card
from ranet_jax.inference.model import Model
from ranet_jax.pipeline.images import read_image
from ranet_jax.porting.directories import write_weights
from ranet_jax.porting.networks import find_network
from ranet_jax.porting.networks.segmenters import OWN
from ranet_jax.porting.published import CONFIG, FORMAT, LIBRARY, WEIGHTS

CARD, PICTURE = "README.md", "picture.png"
# The files that a model is read from.
READ = (WEIGHTS, CONFIG, MANIFEST)


def write_directory(
    directory: str | os.PathLike[str], model: Model, card: Card, picture: paths.Path | None
) -> None:
    """Write a model to a new directory, whole or not at all.

    Args:
      directory: the directory to write.
      model: the model to publish, with the settings of its config.
      card: the other contents of its model card, with `PICTURE` as picture if one is given.
      picture: image file to show in the card.

    Raises:
      UserError: the directory exists or cannot be written, the picture cannot be read, or the
        network's tensors have no names.
    """
    pixels = None if picture is None else read_image(picture)
    with new_directory(directory) as partial:
        write_weights(partial / WEIGHTS, find_network(model.config), model.variables, OWN)
        write_json(partial / CONFIG, _describe(model))
        write_text(partial / CARD, write_card(model, card))
        if pixels is not None:
            Image.fromarray(pixels).save(partial / PICTURE)
        write_manifest(partial)


def _describe(model: Model) -> dict[str, Any]:
    return {
        "library_name": LIBRARY,
        "library_version": importlib.metadata.version(LIBRARY),
        "format": FORMAT,
        "step": model.step,
        "dataset": model.dataset.to_json(),
        "experiment": config_to_json(_without_places(model.config)),
    }


def _without_places(config: ConfigDict) -> ConfigDict:
    """The config without the directories of the machine it was trained on."""
    config = config.copy_and_resolve_references()
    config.data.data_dir = config.model.init_from = None
    return config
