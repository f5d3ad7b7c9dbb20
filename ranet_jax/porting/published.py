"""Reading the directories of published models, which `ranet_jax.hub` writes, like those of runs.

The weights have this package's own names, and `config.json` holds the rest of the model: the
experiment's config, the data set's classes, the step.
"""

import os
import pathlib

import flax.traverse_util
from ml_collections import ConfigDict

from ranet_jax import checkpoints
from ranet_jax.checkpoints.manifests import find_damage
from ranet_jax.checkpoints.variables import StoredModel
from ranet_jax.checkpoints.workdirs import parse_config, read_description
from ranet_jax.errors import UserError
from ranet_jax.files import paths, read_json
from ranet_jax.models import build_network
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.porting.coverage import Misfit, to_arrays
from ranet_jax.porting.files import read_tensors
from ranet_jax.porting.modules import flatten
from ranet_jax.porting.networks import find_network
from ranet_jax.porting.networks.segmenters import OWN

LIBRARY = "ranet_jax"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
# The format of `config.json`; files of another number have another format.
FORMAT = 1


def is_published(directory: paths.Path) -> bool:
    """Whether a directory holds weights as a published model does."""
    return paths.is_file(directory / WEIGHTS)


def load_variables(path: str | os.PathLike[str]) -> StoredModel:
    """Read a trained, exported or published model.

    Args:
      path: what `checkpoints.load_variables` reads, or a directory of a published model.

    Raises:
      UserError: there is no model, a file is damaged or of a later version, or the weights do not
        fit the network.
      OSError: the store that the directory is on cannot be read.
    """
    directory = paths.as_path(path)
    if not is_published(directory):
        return checkpoints.load_variables(path)
    with paths.local_copy(directory) as copy:
        return _read(copy)


def load_description(directory: paths.Path) -> tuple[ConfigDict, DatasetMetadata]:
    """Config and data set of a working directory, an exported or a published model.

    Raises:
      UserError: a file is missing, or is not such a description.
    """
    if not is_published(directory):
        return read_description(directory)
    config, dataset, _ = _read_description(directory / CONFIG)
    return config, dataset


def _read(directory: pathlib.Path) -> StoredModel:
    config, dataset, step = _read_description(directory / CONFIG)
    for name, what in find_damage(directory, below=WEIGHTS).items():
        raise UserError(f"{directory / name} {what}; restore it from a copy.")
    tensors = read_tensors(directory / WEIGHTS)
    _, expected = build_network(config, dataset.num_classes, str(directory))
    shapes = {path: value.shape for path, value in flatten(expected).items()}
    naming = next(naming for naming in find_network(config).namings if naming.name == OWN)
    try:
        arrays, _, _ = to_arrays(tensors, naming, shapes)
    except Misfit as misfit:
        complaint = f"{directory / WEIGHTS} does not belong to {CONFIG}; restore both from a copy."
        raise Misfit(misfit.complaint, misfit.lists, complaint) from misfit
    return StoredModel(config, dataset, flax.traverse_util.unflatten_dict(arrays, sep="/"), step)


def _read_description(path: paths.Path) -> tuple[ConfigDict, DatasetMetadata, int | None]:
    if not paths.is_file(path):
        raise UserError(
            f"{path.parent} holds no published model, as it lacks {CONFIG}; name a directory that"
            " `ranet publish` wrote."
        )
    fields = read_json(path)
    if not isinstance(fields, dict) or fields.get("library_name") != LIBRARY:
        raise UserError(
            f"{path} does not describe a published model of {LIBRARY}; name a directory that"
            " `ranet publish` wrote."
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
