"""Backbones by name. To add a family, write a file that declares it and list it in `FAMILIES`."""

from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.models.backbones import hrnet, mobilenet, mobilenet_v3, resnet
from ranet_jax.models.backbones.family import BackboneFamily, Stages
from ranet_jax.models.backbones.hrnet import HRNet
from ranet_jax.models.backbones.mobilenet import MobileNetV2
from ranet_jax.models.backbones.mobilenet_v3 import MobileNetV3
from ranet_jax.models.backbones.resnet import ResNet

__all__ = [
    "FAMILIES",
    "BackboneFamily",
    "HRNet",
    "MobileNetV2",
    "MobileNetV3",
    "ResNet",
    "Stages",
    "build_backbone",
    "find_stages",
]

FAMILIES: list[BackboneFamily] = [
    resnet.FAMILY,
    hrnet.FAMILY,
    mobilenet.FAMILY,
    mobilenet_v3.FAMILY,
]


def build_backbone(model: ConfigDict, **settings: Any) -> nn.Module:
    """Build the backbone that the `model` section of a config names.

    Args:
      model: the section.
      settings: `dtype`, `axis_name`, and the attributes that the context block requires.

    Raises:
      ValueError: there is no backbone of this name, or one of its settings has a wrong value.
    """
    family = _find_family(model)
    for other in FAMILIES:
        for field, value in other.settings.items():
            if field not in family.settings and model[field] != value:
                raise ValueError(
                    f"{field} is {model[field]!r}, but {model.backbone} has no such setting; leave"
                    f" it at {value!r}."
                )
    return family.build(model, **settings)


def find_stages(model: ConfigDict) -> Stages:
    """Find the names of the features that context blocks read from the backbone of `model`.

    Raises:
      ValueError: there is no backbone of this name.
    """
    return _find_family(model).stages(model)


def _find_family(model: ConfigDict) -> BackboneFamily:
    for family in FAMILIES:
        if model.backbone in family.names:
            return family
    names = tuple(name for family in FAMILIES for name in family.names)
    raise ValueError(f"backbone is {model.backbone!r}; choose one of {names}.")
