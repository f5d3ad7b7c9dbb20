"""The description of a context block, so that no other code refers to a block by name."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.models.backbones import Stages


class PixelPairs(enum.Enum):
    """How a block handles pairs of feature pixels, which determines the image sizes it can take.

    NONE: it compares no pairs, and takes images of any size. STREAMED: it goes over all pairs in
    bounded memory. TABLES: it holds tables of all pairs.
    """

    NONE = "none"
    STREAMED = "streamed"
    TABLES = "tables"


@dataclass(frozen=True)
class ContextBlock:
    """A context block, and what other code needs to know about it.

    Attributes:
      name: the value of `config.model.context` that chooses it.
      build: builds the module from the `model` section of a config, the backbone's stages and the
        number of categories, with keywords `channels`, `dtype` and `axis_name`. It raises
        ValueError if settings do not fit the block.
      variant: the value of `config.model.variant` that chooses it among the blocks of the same
        name; None for the block that all other values choose.
      pairs: returns how it handles pairs of feature pixels, from the same section.
      has_aspp: whether it uses `config.model.aspp_rates`.
      has_coarse: whether it computes coarse scores.
      has_fine_boundary: whether its features are classified for boundaries too.
      classifier_size: kernel size in pixels of the classifier of its features, an odd number.
      min_channels: the smallest value of `config.model.channels` that it supports.
      backbone: attributes that its backbone must have, in addition to those of the config.
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
    """Return the `build` of a block that needs only the last stage and the shared settings."""

    def build(model: ConfigDict, stages: Stages, num_classes: int, **shared: Any) -> nn.Module:
        return module(stages.last, **shared)

    return build
