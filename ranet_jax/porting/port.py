"""From the file of a state dict to a Flax module and its variables."""

import os
import re
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ranet_jax.errors import UserError, check_counts
from ranet_jax.porting.advice import advise
from ranet_jax.porting.coverage import Misfit, choose_naming, to_arrays
from ranet_jax.porting.files import StateDict, open_weights
from ranet_jax.porting.modules import (
    IMAGES,
    array_shapes,
    build_module,
    count_classes,
    flatten,
    source_shapes,
)
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.networks import Network, find_network
from ranet_jax.porting.stored import Tensors


@dataclass(frozen=True)
class Ported:
    """A network with the weights of a state dict.

    Attributes:
      network: the network.
      naming: naming of the state dict.
      module: Flax module.
      variables: its "params" and "batch_stats", nested dictionaries of NumPy arrays.
      output_stride: output stride of the module.
      num_classes: number of classes of its classifier; None if it has no classifier.
      kept: tensors that no array can restore bit by bit.
      fresh: paths of the arrays that have initial values because no tensor gives them others.
    """

    network: Network
    naming: Naming
    module: nn.Module
    variables: dict[str, Any]
    output_stride: int
    num_classes: int | None
    kept: StateDict = field(default_factory=dict)
    fresh: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary of what the network is and of the arrays with new initial values."""
        return {
            "network": self.network.name,
            "naming": self.naming.name,
            "output_stride": self.output_stride,
            "num_classes": self.num_classes,
            "num_arrays": len(flatten(self.variables)),
            "fresh": list(self.fresh),
        }

    def summary(self) -> str:
        """What the network is and which of its weights are new, for the user to read."""
        plural = "class" if self.num_classes == 1 else "classes"
        classes = f"{self.num_classes} {plural}" if self.num_classes else "no classifier"
        last = getattr(self.module, "stages", 4)
        stages = f", up to layer{last}" if last < 4 else ""
        lines = [
            f"{self.network.name}: {len(flatten(self.variables)) - len(self.fresh)} arrays in the"
            f" names of {self.naming.name}, output stride {self.output_stride}, {classes}{stages}."
        ]
        if self.fresh:
            modules = sorted({path.split("/", 1)[1].rsplit("/", 1)[0] for path in self.fresh})
            lines.append(
                f"{len(self.fresh)} arrays have new initial values: those of {', '.join(modules)}."
            )
        if self.num_classes == 1 and self.network.config is not None:
            lines.append(
                "A classifier of one class (made for a sigmoid) gives every pixel this class here;"
                " choose another number of classes to start with a new classifier."
            )
        broken = [p for p, x in flatten(self.variables).items() if not np.isfinite(x).all()]
        if broken:
            lines.append(f"{len(broken)} arrays hold NaN or infinity: {', '.join(broken)}.")
        return "\n".join(lines)


def port(
    path: str | os.PathLike[str],
    model: str | ConfigDict,
    output_stride: int | None = None,
    allow_missing: str | None = None,
    num_classes: int | None = None,
    prefix: str | None = None,
    part: str | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a Flax module and its variables from a file of PyTorch weights.

    Args:
      path: a state dict: a file of PyTorch's (.pth, .pt, .ckpt, .bin, .pkl), .safetensors or .npz,
        or an index of several files, or the directory that holds it.
      model: name of a network, or the config of a segmenter.
      output_stride: output stride of the module; the network's usual one if not given.
      allow_missing: regular expression of arrays that the file may lack; they get their initial
        values.
      num_classes: number of classes of the classifier, which gets initial values if the file's
        classifier has another number; the file's number if not given.
      prefix: take only the tensors whose names begin with it: those of a part of a larger network.
      part: names, with dots, that lead to the state dict if the file holds several.

    Returns:
      The module and its variables, NumPy arrays in float32.

    Raises:
      UserError: the file cannot be read or is not of this network.
    """
    with open_weights(path, prefix, part) as found:
        text = found.description.config
        ported = port_state_dict(
            found.tensors, model, output_stride, allow_missing, num_classes, text
        )
    return ported.module, ported.variables


def port_state_dict(
    tensors: Tensors,
    model: str | ConfigDict,
    output_stride: int | None = None,
    allow_missing: str | None = None,
    num_classes: int | None = None,
    config_text: str | None = None,
) -> Ported:
    """Port tensors by name, as `port` does, and return everything that is known of the result.

    `config_text` is the text of the library's config of a published segmenter, if the file has it.
    """
    if num_classes is not None:
        check_counts({"number of classes": num_classes})
    allowed = [] if not allow_missing else [_compile(allow_missing)]
    network = find_network(model, config_text)
    try:
        return _port(tensors, network, output_stride, allowed, num_classes)
    except Misfit as misfit:
        if "unusable" in misfit.lists:
            raise
        raise Misfit(misfit.complaint, misfit.lists, advise(tensors, network)) from misfit


def _port(
    tensors: Tensors,
    network: Network,
    output_stride: int | None,
    allowed: list[re.Pattern[str]],
    num_classes: int | None,
) -> Ported:
    naming = choose_naming(network.namings, tensors)
    stride = network.output_stride if output_stride is None else output_stride
    source = source_shapes(tensors, naming)
    classes = count_classes(network, source)
    renewed = num_classes is not None and num_classes != classes
    classes = num_classes if renewed else classes
    if classes == 0:
        raise UserError("The file's classifier has 0 classes; choose a number of classes.")
    module = build_module(network, stride, classes, source)
    expected = array_shapes(module)
    taken = tensors
    if renewed:
        other = build_module(network, stride, 1 if classes == 2 else 2, source)
        changed = {path for path, shape in array_shapes(other).items() if shape != expected[path]}
        taken = {k: v for k, v in tensors.items() if _target(k, naming, expected) not in changed}
        allowed = allowed + [re.compile(rf"^{re.escape(path)}$") for path in changed]
    arrays, kept, fresh = to_arrays(taken, naming, expected, allowed)
    if fresh:
        arrays |= {path: np.asarray(array) for path, array in _initial(module, fresh).items()}
    variables = flax.traverse_util.unflatten_dict(arrays, sep="/")
    return Ported(network, naming, module, variables, stride, classes, kept, tuple(fresh))


def _initial(module: nn.Module, paths: list[str]) -> dict[str, jax.Array]:
    """Initial values of some arrays; the others are not compiled, which takes long for ResNets."""

    def initialize(rng: jax.Array) -> dict[str, jax.Array]:
        initial = flatten(module.init(rng, jnp.zeros(IMAGES.shape)))
        return {path: initial[path] for path in paths}

    return jax.jit(initialize)(jax.random.PRNGKey(0))


def _compile(allow_missing: str) -> re.Pattern[str]:
    try:
        return re.compile(allow_missing)
    except re.error as error:
        raise UserError(f"{allow_missing!r} is not a regular expression: {error}.") from error


def _target(name: str, naming: Naming, expected: dict[str, tuple[int, ...]]) -> str | None:
    """Path of the array that a tensor belongs to."""
    entry = naming.to_target(name, expected.__contains__)
    return None if entry is None else entry.target
