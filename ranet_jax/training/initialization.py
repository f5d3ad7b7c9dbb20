"""Starting weights from elsewhere: a ported backbone or segmenter, or a trained model."""

import re
from typing import Any, NamedTuple

import flax.traverse_util
import numpy as np
from ml_collections import ConfigDict

from ranet_jax import checkpoints
from ranet_jax.checkpoints.workdirs import find_config
from ranet_jax.errors import UserError
from ranet_jax.files.paths import Path, absolute, as_path, is_dir
from ranet_jax.porting.directories import read_description
from ranet_jax.porting.published import is_published, load_description, load_variables


class Start(NamedTuple):
    """Location of the weights to start from, their backbone and, for a segmenter, its config."""

    path: Path
    backbone: str
    config: ConfigDict | None


def describe_start(directory: str) -> Start:
    """Find out what `config.model.init_from` holds, from its descriptions alone.

    Raises:
      UserError: the directory is missing, or nothing in it says what it holds.
    """
    path = absolute(as_path(directory))
    if is_published(path):
        config = load_description(path)[0]
        return Start(path, config.model.backbone, config)
    workdir = checkpoints.workdir_of(path)
    config, ported = find_config(workdir), read_description(path)
    if config is not None:
        return Start(path, config.model.backbone, config)
    if ported is not None:
        return Start(path, ported["network"].removesuffix("_v1c"), None)
    what = "holds no checkpoint" if is_dir(path) else "is not a directory"
    raise UserError(
        f"config.model.init_from is {directory!r}, which {what}; name a directory that training,"
        " exporting or porting a network made, or set None to start from random weights."
    )


def check_start(model: ConfigDict) -> Start | None:
    """Check that `config.model.init_from`, if it is set, fits the network; return what it holds.

    No array is read.

    Raises:
      UserError: it holds another backbone or nothing that is known, or `init_allow_missing` is not
        a regular expression.
    """
    if model.init_from is None:
        return None
    start = describe_start(model.init_from)
    if start.backbone != model.backbone:
        raise UserError(
            f"config.model.init_from {model.init_from} holds the weights of {start.backbone}, but"
            f" config.model.backbone is {model.backbone!r}; make them the same."
        )
    _allowed("", model.init_allow_missing)
    return start


def initialize(model: ConfigDict, variables: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Replace a segmenter's initial variables by those of `config.model.init_from`, if it is set.

    A segmenter provides all arrays, a backbone those of the segmenter's backbone. Each of these
    arrays must be there with the same shape, or its path must match `init_allow_missing`. Arrays
    that the network does not have (classifiers, later stages) are left out.

    Args:
      model: the `model` section of a config.
      variables: initial variables of the network it describes.

    Returns:
      The variables, and a sentence that says what was taken; None if `init_from` is not set.

    Raises:
      UserError: the directory cannot be read or holds another backbone, or arrays are missing or
        of another shape.
    """
    start = check_start(model)
    if start is None:
        return variables, None
    found = _read(start)
    arrays, given = (flax.traverse_util.flatten_dict(x, sep="/") for x in (variables, found))
    wanted = list(arrays)
    if "backbone" not in found["params"]:
        given = {path.replace("/", "/backbone/", 1): array for path, array in given.items()}
        wanted = [path for path in arrays if path.split("/")[1] == "backbone"]
    taken = [p for p in wanted if p in given and given[p].shape == arrays[p].shape]
    absent = [path for path in wanted if path not in taken]
    wrong = [path for path in absent if not _allowed(path, model.init_allow_missing)]
    if wrong:
        lines = "".join(
            f"\n  {path} {arrays[path].shape}: "
            + (f"has shape {given[path].shape}" if path in given else "missing")
            for path in wrong
        )
        raise UserError(
            f"{model.init_from} lacks {len(wrong)} arrays of the network, or has them in another"
            " shape; set config.model.init_allow_missing to a regular expression that matches the"
            f" paths of those that may start from random values.{lines}"
        )
    unused = len(given) - len(taken)
    anew = sorted({path.split("/", 1)[1].rsplit("/", 1)[0] for path in arrays if path not in taken})
    sentence = (
        f"{len(taken)} arrays start from {model.init_from}, {len(arrays) - len(taken)} from random"
        " values"
        + (f" ({', '.join(anew)})" if anew else "")
        + f"; {unused} of its arrays do not belong to this network."
    )
    replaced = arrays | {path: np.asarray(given[path]) for path in taken}
    return flax.traverse_util.unflatten_dict(replaced, sep="/"), sentence


def _read(start: Start) -> dict[str, Any]:
    """The variables to start from."""
    if start.config is not None:
        variables = load_variables(start.path).variables
    else:
        variables = checkpoints.read_variables(start.path / "variables")
    if not isinstance(variables, dict) or "params" not in variables:
        raise UserError(
            f"{start.path} holds no parameters of a network; port or export the network again."
        )
    return variables


def _allowed(path: str, pattern: str | None) -> bool:
    if pattern is None:
        return False
    try:
        return re.search(pattern, path) is not None
    except re.error as error:
        raise UserError(
            f"config.model.init_allow_missing is {pattern!r}, which is not a regular expression:"
            f" {error}."
        ) from error
