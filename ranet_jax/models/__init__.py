"""Flax modules: backbones, context blocks and the segmenter, built from a config."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ranet_jax.config import check_config
from ranet_jax.errors import UserError, first_sentence
from ranet_jax.models.backbones import build_backbone, find_stages
from ranet_jax.models.context import PixelPairs, build_context, find_block
from ranet_jax.models.outputs import ContextOutput, Outputs, Regions
from ranet_jax.models.segmenter import AuxiliaryHead, Segmenter

__all__ = [
    "ContextOutput",
    "Outputs",
    "PixelPairs",
    "Regions",
    "Segmenter",
    "build_model",
    "build_network",
    "find_block",
]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build_model(config: ConfigDict, num_classes: int, axis_name: str | None = None) -> nn.Module:
    """Build the segmenter that `config.model` describes, for `num_classes` categories.

    `axis_name` is the mapped axis over which training shares BatchNorm statistics; it is not needed
    for evaluation.

    Raises:
      UserError: a field of `config.model` has a value that is not one of its choices.
    """
    model = config.model
    if model.dtype not in DTYPES:
        raise UserError(f"config.model.dtype is {model.dtype!r}; choose one of {tuple(DTYPES)}.")
    dtype = DTYPES[model.dtype]
    try:
        block, stages = find_block(model), find_stages(model)
        auxiliary = None
        if model.auxiliary:
            if block.has_coarse:
                raise ValueError(
                    f"context {model.context!r} has its own coarse scores; set auxiliary to False."
                )
            if not stages.earlier:
                raise ValueError(f"{model.backbone} has no earlier stage for an auxiliary head.")
            auxiliary = AuxiliaryHead(num_classes, model.dropout, dtype, axis_name)
        context = build_context(model, num_classes, dtype, axis_name)
        return Segmenter(
            backbone=build_backbone(model, dtype=dtype, axis_name=axis_name, **block.backbone),
            context=context,
            auxiliary=auxiliary,
            auxiliary_stage=stages.earlier,
            num_classes=num_classes,
            dropout=model.dropout,
            fine_boundary=block.has_fine_boundary,
            classifier_size=block.classifier_size,
            axis_name=axis_name,
        )
    except ValueError as error:
        raise UserError(f"config.model does not describe a valid network: {error}") from error


def build_network(config: ConfigDict, num_classes: int, source: str) -> tuple[nn.Module, Any]:
    """Build the network that a stored config describes, and return it with its variable shapes.

    Args:
      config: the config of a trained network.
      num_classes: number of categories of the network.
      source: where the config is stored, for the error message.

    Raises:
      UserError: the config does not describe a valid network.
    """
    check_config(config)
    try:
        module = build_model(config, num_classes)
        image = jax.ShapeDtypeStruct((1, *config.data.crop_size, 3), jnp.float32)
        return module, jax.eval_shape(module.init, jax.random.PRNGKey(0), image)
    except UserError:
        raise
    except (ArithmeticError, MemoryError, TypeError, ValueError) as error:
        raise UserError(
            f"The config of {source} does not describe a valid network ({first_sentence(error)});"
            " restore its config.json from a copy."
        ) from error
