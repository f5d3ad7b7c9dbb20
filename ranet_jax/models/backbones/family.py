"""What a family of backbones says of itself, so that nothing else needs to know it by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict


class Stages(NamedTuple):
    """Names of the features that context blocks read: the last ones, and those before them.

    `earlier` is empty where there are none, or where the last ones hold them all. `shallow` are
    those of stride 4 at the end of a network's first stage. `pyramid` has one of each resolution,
    from the highest down.
    """

    last: str
    earlier: str
    shallow: str
    pyramid: tuple[str, ...]


def check_output_stride(network: str, output_stride: int, choices: tuple[int, ...]) -> None:
    """Raise `ValueError` unless a network can have an output stride."""
    if output_stride not in choices:
        raise ValueError(
            f"{network}'s output_stride is {output_stride!r}; choose one of {choices}."
        )


@dataclass(frozen=True)
class BackboneFamily:
    """Backbones of one file, and what others need to know of them.

    Attributes:
      names: the values of `config.model.backbone` that choose one of them.
      build: the module, of the `model` section of a config, and as keywords `dtype`, `axis_name`
        and what a context block asks of its backbone.
      stages: which features context blocks read, of the same section.
      settings: fields of the section that only this family has, each with the value that the
        other families leave it at.
    """

    names: tuple[str, ...]
    build: Callable[..., nn.Module]
    stages: Callable[[ConfigDict], Stages]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
