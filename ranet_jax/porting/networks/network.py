"""What a network that can be carried over says of itself."""

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
      build: the network, of an output stride, a number of classes (None for no classifier) and
        what the state dict holds, and as keywords the settings.
      stages: by our name of an output, the submodule whose output it is; with an index, one of
        the submodule's list of outputs.
      naming: what it calls its tensors; None for the network's first naming.
      size: of an image it takes; one side odd where any size will do.
      settings: fields of `config.model` that decide on the network too.
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
      name: what users call it.
      namings: what its tensors are called, in one library or another.
      output_stride: the usual one.
      classifier: the array with an entry for each class; a state dict without it is of a backbone
        alone.
      build: the module, of an output stride, a number of classes (None for no classifier) and
        what the state dict holds.
      config: of a segmenter, the experiment that it is the model of.
      twin: what to compare it with, if there is such a library.
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
      name: what users call it.
      config: the experiment that it is the model of.
      naming: what the library calls the tensors of it, and of its kin.
      fits: whether a network with this `model` section of a config is of its kin.
      optional_auxiliary: whether a state dict may hold an auxiliary head or not.
      twin: the library's implementation, if it can be had.
      adapt: changes the config to what the text of a config of the library says.
      older: what the library called the tensors before.
      fit_shapes: changes the `model` section of the config to what the shapes of a state dict say.
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
