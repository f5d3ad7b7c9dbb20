"""The RANet that the paper's authors released."""

from ml_collections import ConfigDict

from ranet_jax.config_files import load_config, packaged_config
from ranet_jax.porting.name_patterns import ABN_SCALE, Entry, Naming, conv, conv_norm, within
from ranet_jax.porting.networks import resnet
from ranet_jax.porting.networks.network import PublishedSegmenter

# All its BatchNorms are InPlace-ABN's. It creates a head and a group convolution that no output
# depends on.
RELEASED = Naming(
    "released",
    (
        *within([*resnet.numbered_stem(ABN_SCALE), *resnet.stages(ABN_SCALE)], "", "backbone"),
        *conv_norm("dsn", "context/dsn", ABN_SCALE),
        *conv("dsn_{name}_logit", "context/dsn_{name}_logit"),
        *conv_norm("rib.{name}_conv", "context/{name}_conv", ABN_SCALE),
        *conv("head_semantic_logit", "fine_logit"),
        *conv("head_boundary_logit", "fine_boundary_logit"),
        Entry("rcb.conv_1x1_group.weight", None),
        Entry("rcb.conv_1x1_group.bias", None),
        Entry("head.0.weight", None),
        Entry("head.1.{name}", None),
    ),
    "RANet's authors",
)


def _config() -> ConfigDict:
    return load_config(str(packaged_config("released_resnet101_cityscapes_769_40k.py")))


SEGMENTERS = (
    PublishedSegmenter(
        "ranet_released",
        _config,
        RELEASED,
        lambda model: (model.context, model.variant) == ("ranet", "released"),
    ),
)
