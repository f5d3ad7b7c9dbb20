"""Segmenters with few channels, one for each context block."""

import pytest

from ranet_jax.config import default_config
from ranet_jax.models.context import BLOCKS

SMALL = {"backbone": "resnet18", "width": 4, "channels": 8, "num_regions": 4, "per_region": 2}
# Blocks whose features have fewer channels: a sixteenth, for five stages.
WIDTHS = {"unet": {"channels": 128}}
# Further settings that blocks need, by name or variant.
NEEDED: dict[str, dict[str, object]] = {
    "aspp": {"aspp_rates": (2, 4)},
    "deeplabv3plus": {"aspp_rates": (2, 4)},
    "released": {"backbone": "resnet50", "stem": "deep", "stages": 4},
}
# Libraries that arrange a block's layers differently, which makes a variant of the block.
LIBRARIES = ("mmsegmentation", "segmentation_models")


def block_id(block):
    if block.variant in LIBRARIES:
        return f"{block.name}_{block.variant}"
    return block.variant if block.variant == "released" else block.name


# One of each kind: regions, attention over pixels and over regions, a pyramid, a decoder, and none.
# The others, and other arrangements of a block's layers, repeat what these show.
ALWAYS = {"ranet", "psanet", "ocr", "psp", "unet", "none"}
every_block = pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, marks=() if block_id(block) in ALWAYS else pytest.mark.long)
        for block in BLOCKS
    ],
    ids=block_id,
)


def small_config(block, **settings):
    """Config of a small network with the block."""
    config = default_config()
    widths = WIDTHS.get(block.name, {})
    config.model.update(SMALL | widths | settings, context=block.name)
    config.model.variant = block.variant or "paper"
    config.model.update(NEEDED.get(block.name, {}) | NEEDED.get(block.variant, {}))
    return config
