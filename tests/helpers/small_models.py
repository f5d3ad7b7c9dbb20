"""Segmenters with few channels, one for each context block."""

from ranet_jax.config import default_config

SMALL = {"backbone": "resnet18", "width": 4, "channels": 8, "num_regions": 4, "per_region": 2}
# What blocks need besides.
NEEDED = {
    "aspp": {"aspp_rates": (2, 4)},
    "released": {"backbone": "resnet50", "stem": "deep", "stages": 4},
}


def block_id(block):
    return block.variant if block.variant == "released" else block.name


def small_config(block, **settings):
    """Config of a small network with the block."""
    config = default_config()
    config.model.update(SMALL | settings, context=block.name)
    config.model.variant = block.variant or "paper"
    config.model.update(NEEDED.get(block_id(block), {}))
    return config
