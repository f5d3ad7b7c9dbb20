"""Directories of ported networks, and the way back from any checkpoint to a state dict.

A directory holds `variables/` (Orbax), `port.json` (the network, its naming, the file it comes
from), `kept.safetensors` (tensors of that file that no array can restore bit by bit: counts of
batches, weights that the network does not compute with) and `manifest.json` (checksums of the other
files). The directory of a segmenter also has `config.json` and `dataset.json`, as an exported model
does, so that it can be evaluated and can predict.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ranet_jax import checkpoints
from ranet_jax.checkpoints.manifests import write_manifest
from ranet_jax.checkpoints.workdirs import describe
from ranet_jax.errors import UserError
from ranet_jax.files import new_directory, paths, read_json, write_json, write_text
from ranet_jax.files.paths import as_path
from ranet_jax.pipeline.metadata import DatasetMetadata, numbered_classes
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.files import StateDict, read_tensors, write_state_dict
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.networks import Network, find_network
from ranet_jax.porting.port import Ported, flatten
from ranet_jax.porting.published import load_variables
from ranet_jax.porting.shards import weight_files

Path = str | os.PathLike[str]
KEPT = "kept.safetensors"
# Fields of port.json that are read again.
FIELDS = {"network": str, "naming": str, "fresh": list}


def write_ported(
    directory: Path,
    ported: Ported,
    source: Path,
    dataset: DatasetMetadata | None = None,
    card: Callable[[dict[str, Any], DatasetMetadata | None], str] | None = None,
) -> None:
    """Write a ported network, whole or not at all.

    Args:
      directory: new directory.
      ported: the network.
      source: file that its weights come from.
      dataset: categories of a segmenter; numbered ones if not given.
      card: returns the text of a model card, given the fields of `port.json` and the categories.

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
            describe(partial, config, dataset)
        description = {
            "network": ported.network.name,
            "naming": ported.naming.name,
            "output_stride": ported.output_stride,
            "num_classes": ported.num_classes,
            "fresh": list(ported.fresh),
            "source": as_path(source).name,
            "sha256": _sha256(as_path(source)),
        }
        write_json(partial / "port.json", description)
        if card is not None:
            write_text(partial / "README.md", card(description, dataset))
        write_manifest(partial)


def _sha256(path: paths.Path) -> str:
    digest = hashlib.sha256()
    for part in weight_files(path):
        with paths.local_copy(part) as copy, copy.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)  # continues the same digest
    return digest.hexdigest()


def read_description(directory: Path) -> dict[str, Any] | None:
    """Fields of a ported network's `port.json`; None if there is no such file.

    Raises:
      UserError: the file does not describe a ported network.
    """
    path = as_path(directory) / "port.json"
    if not paths.is_file(path):
        return None
    fields = read_json(path)
    for name, kind in FIELDS.items():
        if not isinstance(fields, dict) or not isinstance(fields.get(name), kind):
            raise UserError(
                f"{path} lacks a field {name!r} of type {kind.__name__}; restore it from a copy, or"
                " port the network again."
            )
    return fields


def is_backbone(directory: Path) -> bool:
    """Whether a directory holds a ported backbone, which scores no classes: it has no config."""
    directory = as_path(directory)
    return paths.is_file(directory / "port.json") and not paths.is_file(directory / "config.json")


def reverse(checkpoint: Path, output: Path, naming: str | None = None) -> tuple[str, list[str]]:
    """Write the weights of a checkpoint as a state dict.

    Args:
      checkpoint: directory of a ported network, working directory, one checkpoint of it, or an
        exported or published model.
      output: new file, .pth or .safetensors.
      naming: naming of the tensors; if not given, the one they came with, or else the network's
        first one.

    Returns:
      The name of the naming, and the paths of the arrays that are left out because the file that
      the network was ported from lacked them.

    Raises:
      UserError: there is no checkpoint, the network has no such naming, or the file cannot be
        written.
    """
    checkpoint = as_path(checkpoint)
    ported = read_description(checkpoint)
    if ported is not None and is_backbone(checkpoint):
        network = find_network(ported["network"])
        variables = checkpoints.read_variables(paths.absolute(checkpoint) / "variables")
    else:
        stored = load_variables(checkpoint)
        network, variables = find_network(stored.config), stored.variables
    kept: StateDict = {}
    fresh: list[str] = []
    if ported is not None:
        fresh, naming = ported["fresh"], naming or ported["naming"]
        if naming == ported["naming"] and paths.is_file(checkpoint / KEPT):
            kept = read_tensors(checkpoint / KEPT)
    return write_weights(output, network, variables, naming, kept, fresh), fresh


def write_weights(
    output: Path,
    network: Network,
    variables: dict[str, Any],
    naming: str | None = None,
    kept: StateDict | None = None,
    left_out: Sequence[str] = (),
) -> str:
    """Write the variables of a network as a state dict.

    Args:
      output: new file, .pth or .safetensors.
      network: the network that the variables belong to.
      variables: its "params" and "batch_stats".
      naming: naming of the tensors; the network's first one if not given.
      kept: tensors that no array can restore bit by bit.
      left_out: paths of arrays that are left out of the file.

    Returns:
      The name of the naming.

    Raises:
      UserError: the network has no such naming, or the file cannot be written.
    """
    arrays = {p: np.asarray(array) for p, array in flatten(variables).items() if p not in left_out}
    chosen = find_naming(network, naming)
    write_state_dict(output, to_tensors(arrays, chosen, kept))
    return chosen.name


def find_naming(network: Network, name: str | None) -> Naming:
    """A naming of a network by its name; the first one if the name is None.

    Raises:
      UserError: the network has no such naming.
    """
    names = [naming.name for naming in network.namings]
    if name is None:
        return network.namings[0]
    if name not in names:
        raise UserError(f"{network.name} has no naming {name!r}; choose one of {', '.join(names)}.")
    return network.namings[names.index(name)]
