"""The segmenters of torchvision on ResNets: FCN and DeepLabV3."""

from functools import partial
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.config import default_config
from ranet_jax.porting.name_patterns import Naming, conv, conv_norm, norm, within
from ranet_jax.porting.networks import resnet
from ranet_jax.porting.networks.network import PublishedSegmenter, Source, Twin
from ranet_jax.porting.networks.pytorch import import_torchvision

_AUXILIARY = [
    *conv("aux_classifier.0", "auxiliary/reduce/conv"),
    *norm("aux_classifier.1", "auxiliary/reduce/bn"),
    *conv("aux_classifier.4", "auxiliary/logit"),
]
FCN = Naming(
    "torchvision",
    (
        *within(resnet.TORCHVISION.entries, "backbone.", "backbone"),
        *conv("classifier.0", "context/reduce/conv"),
        *norm("classifier.1", "context/reduce/bn"),
        *conv("classifier.4", "fine_logit"),
        *_AUXILIARY,
    ),
)
DEEPLABV3 = Naming(
    "torchvision",
    (
        *within(resnet.TORCHVISION.entries, "backbone.", "backbone"),
        *conv("classifier.0.convs.4.1", "context/aspp/pool/conv"),
        *norm("classifier.0.convs.4.2", "context/aspp/pool/bn"),
        *conv_norm("classifier.0.convs.{i}", "context/aspp/branch{i}"),
        *conv_norm("classifier.0.project", "context/aspp/project"),
        *conv("classifier.1", "context/fuse/conv"),
        *norm("classifier.2", "context/fuse/bn"),
        *conv("classifier.4", "fine_logit"),
        *_AUXILIARY,
    ),
)


def _config(context: str, backbone: str) -> ConfigDict:
    config = default_config()
    config.data.name = "folder"
    config.model.backbone = backbone
    config.model.context = context
    if context == "aspp":
        config.model.aspp_rates = (12, 24, 36)
        config.model.channels = 256
        config.model.dropout = 0.0  # it has its dropout between ASPP and the last convolution
    return config


def _twin(
    name: str, backbone_name: str, output_stride: int, num_classes: int | None, source: Source
) -> Any:
    models = import_torchvision().models
    with_auxiliary = source("params/auxiliary/logit/bias") is not None
    segmenter = getattr(models.segmentation, name)(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes,
        aux_loss=with_auxiliary,
    )
    strides = [output_stride <= stride for stride in (4, 8, 16)]
    build = getattr(models, backbone_name)
    backbone = build(weights=None, replace_stride_with_dilation=strides)
    stages = {"layer4": "out"} | ({"layer3": "aux"} if with_auxiliary else {})
    segmenter.backbone = models._utils.IntermediateLayerGetter(backbone, stages)
    return segmenter


STAGES = {
    "stem": "backbone.relu",
    **{name: f"backbone.{name}" for name in resnet.LAYERS},
    "fine": "classifier",
    "coarse": "aux_classifier",
}


def _segmenter(head: str, context: str, naming: Naming, backbone: str) -> PublishedSegmenter:
    def fits(model: ConfigDict) -> bool:
        return model.backbone.startswith("resnet") and model.context == context

    name = f"{head}_{backbone}"
    return PublishedSegmenter(
        name,
        partial(_config, context, backbone),
        naming,
        fits,
        optional_auxiliary=True,
        twin=Twin(partial(_twin, name, backbone), STAGES),
    )


SEGMENTERS = tuple(
    _segmenter(head, context, naming, backbone)
    for backbone in ("resnet50", "resnet101")
    for head, context, naming in (("fcn", "fcn", FCN), ("deeplabv3", "aspp", DEEPLABV3))
)
