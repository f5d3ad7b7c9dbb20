"""The description of a family of backbones, so that no other code refers to a family by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict


class Stages(NamedTuple):
    """Names of the features that context blocks read: the last ones, and those before them.

    `earlier` is empty if there are no earlier features, or if the last ones include all of them.
    `shallow` names the features of stride 4 at the end of a network's first stage. `pyramid` names
    one feature of each resolution, from the highest down.
    """

    last: str
    earlier: str
    shallow: str
    pyramid: tuple[str, ...]


def check_output_stride(network: str, output_stride: int, choices: tuple[int, ...]) -> None:
    """Raise `ValueError` unless the output stride is one of the network's choices."""
    if output_stride not in choices:
        raise ValueError(
            f"{network}'s output_stride is {output_stride!r}; choose one of {choices}."
        )


@dataclass(frozen=True)
class BackboneFamily:
    """Backbones of one file, and what other code needs to know about them.

    Attributes:
      names: the values of `config.model.backbone` that choose one of them.
      build: builds the module from the `model` section of a config, with keywords `dtype`,
        `axis_name` and the attributes that a context block requires.
      stages: returns the features that context blocks read, from the same section.
      settings: fields of the section that only this family has, each with the value it must keep
        for the other families.
    """

    names: tuple[str, ...]
    build: Callable[..., nn.Module]
    stages: Callable[[ConfigDict], Stages]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
