"""Context blocks by name. To add a block, write a file that declares it and list it in `BLOCKS`.

Each block takes the stages of a backbone and returns a `ContextOutput`.
"""

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.models.backbones import find_stages
from ranet_jax.models.context import (
    aspp,
    asymmetric,
    ccnet,
    danet,
    deeplabv3plus,
    fcn,
    fpn,
    lraspp,
    non_local,
    ocr,
    plain,
    psanet,
    psp,
    ranet,
    released,
    unet,
)
from ranet_jax.models.context.block import ContextBlock, PixelPairs
from ranet_jax.models.layers import Dtype

__all__ = ["BLOCKS", "ContextBlock", "PixelPairs", "build_context", "find_block"]

BLOCKS: list[ContextBlock] = [
    ranet.BLOCK,
    released.BLOCK,
    non_local.BLOCK,
    non_local.REFINED,
    asymmetric.BLOCK,
    ccnet.BLOCK,
    danet.BLOCK,
    psanet.BLOCK,
    psanet.PADDED,
    ocr.BLOCK,
    ocr.SHARED,
    psp.BLOCK,
    psp.LIGHT,
    aspp.BLOCK,
    aspp.SHORT,
    deeplabv3plus.BLOCK,
    deeplabv3plus.WIDE,
    deeplabv3plus.LINEAR,
    fcn.BLOCK,
    fcn.FUSED,
    lraspp.BLOCK,
    unet.BLOCK,
    fpn.BLOCK,
    plain.BLOCK,
]


def find_block(model: ConfigDict) -> ContextBlock:
    """Find the context block that the `model` section of a config names.

    Raises:
      ValueError: there is no block of this name, or no such variant.
    """
    variants = tuple(dict.fromkeys(b.variant for b in BLOCKS if b.variant is not None))
    if model.variant not in variants:
        raise ValueError(f"variant is {model.variant!r}; choose one of {variants}.")
    named = {block.variant: block for block in BLOCKS if block.name == model.context}
    if not named:
        names = tuple(dict.fromkeys(block.name for block in BLOCKS))
        raise ValueError(f"context is {model.context!r}; choose one of {names}.")
    block = named.get(model.variant, named.get(None))
    if block is None:
        raise ValueError(
            f"context {model.context!r} has no variant {model.variant!r}; choose one of"
            f" {tuple(named)}."
        )
    return block


def build_context(
    model: ConfigDict, num_classes: int, dtype: Dtype, axis_name: str | None
) -> nn.Module:
    """Build the module of the context block that the `model` section of a config names.

    Raises:
      ValueError: there is no block of this name, or one of its settings has a wrong value.
    """
    block = find_block(model)
    if model.aspp_rates and not block.has_aspp:
        raise ValueError(f"context {model.context!r} has no ASPP; leave aspp_rates empty.")
    if model.channels < block.min_channels:
        raise ValueError(
            f"context {model.context!r} needs at least {block.min_channels} channels,"
            f" but channels is {model.channels}."
        )
    shared = {"channels": model.channels, "dtype": dtype, "axis_name": axis_name}
    return block.build(model, find_stages(model), num_classes, **shared)
