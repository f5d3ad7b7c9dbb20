"""Directories of ported networks, and the way back from any checkpoint to a state dict.

A directory holds `variables/` (Orbax), `port.json` (the network, its names, the file it comes
from) and `kept.safetensors` (tensors of that file that no array can give back bit by bit: counts
of batches, weights the network does not compute with). That of a segmenter has `config.json` and
`dataset.json` besides, as an exported model has: it can be evaluated and predicts.
"""

import hashlib
import pathlib

import numpy as np

from ranet_jax import checkpoints
from ranet_jax.dataset import DatasetMetadata, numbered_classes
from ranet_jax.errors import UserError
from ranet_jax.files import new_directory, read_json, write_json
from ranet_jax.porting.carry import Ported, flatten
from ranet_jax.porting.convert import to_tensors
from ranet_jax.porting.files import StateDict, read_tensors, write_state_dict
from ranet_jax.porting.naming import Naming
from ranet_jax.porting.networks import Network, find_network

KEPT = "kept.safetensors"


def write_ported(
    directory: pathlib.Path, ported: Ported, source: pathlib.Path, dataset: DatasetMetadata | None
) -> None:
    """Write a ported network, whole or not at all.

    Args:
      directory: new directory.
      ported: the network.
      source: file that its weights come from.
      dataset: categories of a segmenter; numbered ones if not given.

    Raises:
      UserError: the directory exists, or the data set has another number of categories.
    """
    config = ported.network.config
    if config is not None:
        dataset = dataset or numbered_classes(config.data.name, ported.num_classes or 0)
        if dataset.num_classes != ported.num_classes:
            raise UserError(
                f"{source} scores {ported.num_classes} classes, but data set {dataset.name!r} has"
                f" {dataset.num_classes}; name the data set of its classes."
            )
    with new_directory(directory) as partial:
        checkpoints.write_variables(partial / "variables", ported.variables)
        if ported.kept:
            write_state_dict(partial / KEPT, ported.kept)
        if config is not None and dataset is not None:
            checkpoints.describe(partial, config, dataset)
        description = {
            "network": ported.network.name,
            "naming": ported.naming.name,
            "output_stride": ported.output_stride,
            "num_classes": ported.num_classes,
            "fresh": list(ported.fresh),
            "source": source.name,
            "sha256": _sha256(source),
        }
        write_json(partial / "port.json", description)


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reverse(checkpoint: pathlib.Path, output: pathlib.Path, naming: str | None = None) -> str:
    """Write the weights of a checkpoint as a state dict.

    Args:
      checkpoint: directory of a ported network, working directory, one checkpoint of it, or an
        exported model.
      output: new file, .pth or .safetensors.
      naming: whose names the tensors get; those they came with if not given, or the first that
        the network has.

    Returns:
      The naming.

    Raises:
      UserError: there is no checkpoint, it has no such naming, or the file cannot be written.
    """
    description = checkpoint / "port.json"
    ported = read_json(description) if description.is_file() else None
    if ported is not None and not (checkpoint / "config.json").is_file():
        network = find_network(ported["network"])
        variables = checkpoints.read_variables(checkpoint.absolute() / "variables")
    else:
        config, _, variables, _ = checkpoints.load_variables(checkpoint)
        network = find_network(config)
    arrays = {path: np.asarray(array) for path, array in flatten(variables).items()}
    kept: StateDict = {}
    if ported is not None:
        arrays = {path: array for path, array in arrays.items() if path not in ported["fresh"]}
        naming = naming or ported["naming"]
        if naming == ported["naming"] and (checkpoint / KEPT).is_file():
            kept = read_tensors(checkpoint / KEPT)
    chosen = _find_naming(network, naming)
    write_state_dict(output, to_tensors(arrays, chosen, kept))
    return chosen.name


def _find_naming(network: Network, name: str | None) -> Naming:
    names = [naming.name for naming in network.namings]
    if name is None:
        return network.namings[0]
    if name not in names:
        raise UserError(f"{network.name} has no naming {name!r}; choose one of {', '.join(names)}.")
    return network.namings[names.index(name)]
