"""The declaration of a network that can be carried over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.porting.coverage import Shape
from ranet_jax.porting.name_patterns import Naming

# Shape of the tensor that an array of the module is made of, or None if the state dict has none.
Source = Callable[[str], Shape | None]


@dataclass(frozen=True)
class Twin:
    """An independent implementation of a network in PyTorch.

    Attributes:
      build: builds the network, given an output stride, a number of classes (None for no
        classifier), what the state dict holds and, as keywords, the settings.
      stages: maps our name of an output to the submodule that computes it; with an index, to one of
        the submodule's list of outputs.
      naming: naming of its tensors; None for the network's first naming.
      size: size of an image that it takes; one side is odd if any size will do.
      settings: fields of `config.model` that the network depends on too.
    """

    build: Callable[..., Any]
    stages: dict[str, str]
    naming: Naming | None = None
    size: tuple[int, int] = (97, 130)
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """A network by name.

    Attributes:
      name: the name by which users choose it.
      namings: namings of its tensors, in one library or another.
      output_stride: the usual output stride.
      classifier: the array with an entry for each class; a state dict without it is of a backbone
        alone.
      build: builds the module, given an output stride, a number of classes (None for no classifier)
        and what the state dict holds.
      config: for a segmenter, the config of an experiment with it.
      twin: the implementation to compare it with, if a library has one.
    """

    name: str
    namings: tuple[Naming, ...]
    output_stride: int
    classifier: str
    build: Callable[[int, int | None, Source], nn.Module]
    config: ConfigDict | None = None
    twin: Twin | None = None


@dataclass(frozen=True)
class PublishedSegmenter:
    """A segmenter of another library.

    Attributes:
      name: the name by which users choose it.
      config: returns the config of an experiment with it.
      naming: the library's naming of its tensors, and of those of related networks.
      fits: whether a network with this `model` section of a config is this one or a related one.
      optional_auxiliary: whether an auxiliary head is optional in a state dict.
      twin: the library's implementation, if it is available.
      adapt: changes the config to what the text of the library's config says.
      older: earlier namings of the library.
      fit_shapes: changes the `model` section of the config to fit the shapes of a state dict.
    """

    name: str
    config: Callable[[], ConfigDict]
    naming: Naming
    fits: Callable[[ConfigDict], bool]
    optional_auxiliary: bool = False
    twin: Twin | None = None
    adapt: Callable[[ConfigDict, str], None] | None = None
    older: tuple[Naming, ...] = ()
    fit_shapes: Callable[[ConfigDict, Source], None] | None = None
