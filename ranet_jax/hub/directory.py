"""The directory of a published model.

It holds `model.safetensors` (the weights in this package's own names), `config.json` (what else a
model is: the experiment's config, the data set's classes, the step), `README.md` (the model card),
`manifest.json` (checksums of the others) and, where there is one, `picture.png`.
"""

import importlib.metadata
import os
import pathlib
from typing import Any

import flax.traverse_util
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ranet_jax.checkpoints.manifests import MANIFEST, find_damage, write_manifest
from ranet_jax.checkpoints.workdirs import parse_config
from ranet_jax.config import config_to_json
from ranet_jax.errors import UserError
from ranet_jax.files import new_directory, paths, read_json, write_json, write_text
from ranet_jax.hub.card import LIBRARY, Card, write_card
from ranet_jax.inference.model import Model, build_network
from ranet_jax.pipeline.images import read_image
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.porting.coverage import Misfit, to_arrays, to_tensors
from ranet_jax.porting.directories import find_naming
from ranet_jax.porting.files import read_tensors, write_state_dict
from ranet_jax.porting.modules import flatten
from ranet_jax.porting.networks import find_network
from ranet_jax.porting.networks.segmenters import OWN

WEIGHTS, CONFIG, CARD, PICTURE = "model.safetensors", "config.json", "README.md", "picture.png"
# What a model is read from.
READ = (WEIGHTS, CONFIG, MANIFEST)
# Of `config.json`: another one is written in another way.
FORMAT = 1


def write_directory(
    directory: str | os.PathLike[str], model: Model, card: Card, picture: paths.Path | None
) -> None:
    """Write a model to a new directory, whole or not at all.

    Args:
      directory: to write.
      model: what is published, with the settings of its config.
      card: what its model card says besides; of its picture, the directory decides.
      picture: image file to show in the card.

    Raises:
      UserError: the directory exists or cannot be written, the picture cannot be read, or the
        network has no names.
    """
    pixels = None if picture is None else read_image(picture)
    naming = find_naming(find_network(model.config), OWN)
    arrays = {path: np.asarray(array) for path, array in flatten(model.variables).items()}
    tensors = to_tensors(arrays, naming)
    with new_directory(directory) as partial:
        write_state_dict(partial / WEIGHTS, tensors)
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


def read_directory(directory: paths.Path) -> Model:
    """The model that `write_directory` wrote.

    Raises:
      UserError: a file is missing or damaged, is of a later version, or holds weights that do not
        fit the network.
      OSError: the store that the directory is on cannot be read.
    """
    with paths.local_copy(directory) as copy:
        return _read(copy)


def _read(directory: pathlib.Path) -> Model:
    config, dataset, step = _read_description(directory / CONFIG)
    for name, what in find_damage(directory, below=WEIGHTS).items():
        raise UserError(f"{directory / name} {what}; restore it from a copy.")
    tensors = read_tensors(directory / WEIGHTS)
    module, expected = build_network(config, dataset.num_classes, str(directory))
    shapes = {path: value.shape for path, value in flatten(expected).items()}
    try:
        arrays, _, _ = to_arrays(tensors, find_naming(find_network(config), OWN), shapes)
    except Misfit as misfit:
        complaint = f"{directory / WEIGHTS} does not belong to {CONFIG}; restore both from a copy."
        raise Misfit(misfit.complaint, misfit.lists, complaint) from misfit
    variables = flax.traverse_util.unflatten_dict(arrays, sep="/")
    return Model(config, module, variables, dataset, step)


def _read_description(path: pathlib.Path) -> tuple[ConfigDict, DatasetMetadata, int | None]:
    if not path.is_file():
        raise UserError(
            f"{path.parent} holds no published model, as it lacks {CONFIG}; name a directory that"
            " `ranet publish` wrote."
        )
    fields = read_json(path)
    if not isinstance(fields, dict) or fields.get("library_name") != LIBRARY:
        raise UserError(
            f"{path} does not describe a published model of {LIBRARY}; name a directory that"
            " `ranet publish` wrote, or read runs and exported models with `ranet_jax.load`."
        )
    if fields.get("format") != FORMAT:
        raise UserError(
            f"{path} has the format {fields.get('format')!r} of {LIBRARY}"
            f" {fields.get('library_version')}, and this version reads format {FORMAT}; use a"
            " version that reads it."
        )
    step = fields.get("step")
    if step is not None and type(step) is not int:
        raise UserError(f"{path} has the step {step!r}; restore it from a copy.")
    config = parse_config(fields.get("experiment"), path)
    return config, DatasetMetadata.from_json(fields.get("dataset")), step
