"""What a context block says of itself, so that nothing else needs to know it by name."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages


class PixelPairs(enum.Enum):
    """What a block does with the pairs of feature pixels, which decides on the images it takes.

    NONE: it compares no pairs, and takes images of any size. STREAMED: it goes over all pairs in
    bounded memory. TABLES: it holds tables of all pairs.
    """

    NONE = "none"
    STREAMED = "streamed"
    TABLES = "tables"


@dataclass(frozen=True)
class ContextBlock:
    """A context block, and what others need to know of it.

    Attributes:
      name: the value of `config.model.context` that chooses it.
      build: the module, of the `model` section of a config, the backbone's stages and the number
        of categories, and as keywords `channels`, `dtype` and `axis_name`. It raises ValueError
        where settings do not fit the block.
      variant: the value of `config.model.variant` that chooses it among blocks of its name; None
        for the one that all other values choose.
      pairs: what it does with pairs of feature pixels, of the same section.
      has_aspp: whether it takes `config.model.aspp_rates`.
      has_coarse: whether it gives coarse scores.
      has_fine_boundary: whether its features are classified for boundaries too.
      classifier_size: pixels a side that the classifier of its features sees, an odd number.
      min_channels: the fewest `config.model.channels` it can work with.
      backbone: attributes that its backbone must have, besides those of the config.
    """

    name: str
    build: Callable[..., nn.Module]
    variant: str | None = None
    pairs: Callable[[ConfigDict], PixelPairs] = lambda model: PixelPairs.NONE
    has_aspp: bool = False
    has_coarse: bool = False
    has_fine_boundary: bool = False
    classifier_size: int = 1
    min_channels: int = 1
    backbone: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def on_last_stage(module: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """How to build a block that nothing but the backbone's last stage and its channels describe."""

    def build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
        return module(stages.last, **shared)

    return build
