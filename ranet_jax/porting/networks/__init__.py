"""The networks that can be carried over.

To add a network, write a module that says how it is built to fit a state dict, what its tensors are
called and what to compare it with, and add a line to `BACKBONES` or `SEGMENTERS`.
"""

from ml_collections import ConfigDict

from ranet_jax.errors import UserError
from ranet_jax.porting.networks import (
    hrnet,
    mmsegmentation,
    mmsegmentation_hrnet,
    mobilenet,
    mobilenet_v3,
    released_ranet,
    resnet,
    segmentation_models,
    torchvision_segmenters,
)
from ranet_jax.porting.networks.network import Network, PublishedSegmenter, Source, Twin
from ranet_jax.porting.networks.segmenters import segmenter

__all__ = ["BACKBONES", "NETWORKS", "SEGMENTERS", "Network", "Source", "Twin", "find_network"]

BACKBONES: dict[str, Network] = {
    network.name: network
    for network in (
        *resnet.NETWORKS,
        *hrnet.NETWORKS,
        *mobilenet.NETWORKS,
        *mobilenet_v3.NETWORKS,
    )
}
SEGMENTERS: dict[str, PublishedSegmenter] = {
    published.name: published
    for published in (
        *torchvision_segmenters.SEGMENTERS,
        *mmsegmentation.SEGMENTERS,
        *mmsegmentation_hrnet.SEGMENTERS,
        *segmentation_models.SEGMENTERS,
        *released_ranet.SEGMENTERS,
    )
}
NETWORKS = (*BACKBONES, *SEGMENTERS)


def find_network(model: str | ConfigDict, config_text: str | None = None) -> Network:
    """The network with a name, or the segmenter of a config.

    Args:
      model: the name or the config.
      config_text: text of the library's config in the file of a published segmenter, if it has one.

    Raises:
      UserError: there is no network with the name or these settings, or there are no names for the
        config's backbone.
    """
    if isinstance(model, ConfigDict):
        return _segmenter("segmenter", model)
    if model in BACKBONES:
        return BACKBONES[model]
    if model in SEGMENTERS:
        published = SEGMENTERS[model]
        config = published.config()
        if config_text is not None and published.adapt is not None:
            published.adapt(config, config_text)
        return _segmenter(model, config, published)
    raise UserError(
        f"There is no network {model!r} to carry over; choose one of {', '.join(NETWORKS)},"
        " or a file of configs/."
    )


def _segmenter(
    name: str, config: ConfigDict, published: PublishedSegmenter | None = None
) -> Network:
    backbone = BACKBONES.get(config.model.backbone)
    if backbone is None:
        raise UserError(
            f"No names are known for config.model.backbone {config.model.backbone!r}; choose one of"
            f" {', '.join(BACKBONES)}."
        )
    fitting = [
        naming
        for known in SEGMENTERS.values()
        if known.fits(config.model)
        for naming in (known.naming, *known.older)
    ]
    others = tuple(dict.fromkeys(fitting))
    if published is None:
        return segmenter(name, config, backbone.namings[0], others)
    return segmenter(
        name,
        config,
        backbone.namings[0],
        others,
        optional_auxiliary=published.optional_auxiliary,
        twin=published.twin,
        fit_shapes=published.fit_shapes,
    )
