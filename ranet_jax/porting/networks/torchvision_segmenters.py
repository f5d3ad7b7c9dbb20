"""torchvision's segmenters: FCN and DeepLabV3 on ResNets, DeepLabV3 and LR-ASPP on MobileNetV3."""

from functools import partial
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.config import default_config
from ranet_jax.models.backbones.resnet import BLOCKS
from ranet_jax.porting.name_patterns import Naming, conv, conv_norm, norm, within
from ranet_jax.porting.networks import mobilenet_v3, resnet
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
_ASPP = [
    *conv("classifier.0.convs.4.1", "context/aspp/pool/conv"),
    *norm("classifier.0.convs.4.2", "context/aspp/pool/bn"),
    *conv_norm("classifier.0.convs.{i}", "context/aspp/branch{i}"),
    *conv_norm("classifier.0.project", "context/aspp/project"),
    *conv("classifier.1", "context/fuse/conv"),
    *norm("classifier.2", "context/fuse/bn"),
    *conv("classifier.4", "fine_logit"),
    *_AUXILIARY,
]
DEEPLABV3 = Naming(
    "torchvision", (*within(resnet.TORCHVISION.entries, "backbone.", "backbone"), *_ASPP)
)
MOBILE_DEEPLABV3 = Naming(
    "torchvision", (*within(mobilenet_v3.FEATURES, "backbone.", "backbone"), *_ASPP)
)
LRASPP = Naming(
    "torchvision",
    (
        *within(mobilenet_v3.FEATURES, "backbone.", "backbone"),
        *conv("classifier.cbr.0", "context/reduce/conv"),
        *norm("classifier.cbr.1", "context/reduce/bn"),
        *conv("classifier.scale.1", "context/scale"),
        *conv("classifier.low_classifier", "skipped_logit"),
        *conv("classifier.high_classifier", "fine_logit"),
    ),
)


def _config(context: str, backbone: str) -> ConfigDict:
    config = default_config()
    config.data.name = "folder"
    config.model.backbone = backbone
    config.model.context = context
    config.model.align_corners = False
    if context == "aspp":
        config.model.aspp_rates = (12, 24, 36)
        config.model.channels = 256
        config.model.dropout = 0.0  # it has its dropout between ASPP and the last convolution
    if context == "lraspp":
        config.model.channels = 128
        config.model.dropout = 0.0
    if backbone == "mobilenetv3_large":
        config.model.output_stride = 16
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
    if backbone_name == "mobilenetv3_large":
        backbone = mobilenet_v3.torch_backbone(output_stride, None).features
        first, last = ("low", "high") if name.startswith("lraspp") else ("aux", "out")
        stages = {"4": first, "16": last}
    else:
        strides = [output_stride <= stride for stride in (4, 8, 16)]
        build = getattr(models, backbone_name)
        backbone = build(weights=None, replace_stride_with_dilation=strides)
        stages = {"layer3": "aux", "layer4": "out"}
    segmenter.backbone = models._utils.IntermediateLayerGetter(backbone, stages)
    return segmenter


SCORES = {"fine": "classifier", "coarse": "aux_classifier"}
STAGES = {
    "stem": "backbone.relu",
    **{name: f"backbone.{name}" for name in resnet.LAYERS},
    **SCORES,
}
MOBILE_STAGES = {
    stage: place.replace("features.", "backbone.")
    for stage, place in mobilenet_v3.STAGES.items()
    if stage != "logits"
} | SCORES


def _segmenter(name: str, context: str, naming: Naming, backbone: str) -> PublishedSegmenter:
    is_mobile = backbone == "mobilenetv3_large"
    kin = (backbone,) if is_mobile else tuple(f"resnet{depth}" for depth in BLOCKS)

    def fits(model: ConfigDict) -> bool:
        kind = (model.context, model.variant, model.dilate_first_block)
        return model.backbone in kin and kind == (context, "paper", False)

    return PublishedSegmenter(
        name,
        partial(_config, context, backbone),
        naming,
        fits,
        optional_auxiliary=context != "lraspp",
        twin=Twin(partial(_twin, name, backbone), MOBILE_STAGES if is_mobile else STAGES),
    )


SEGMENTERS = (
    _segmenter("fcn_resnet50", "fcn", FCN, "resnet50"),
    _segmenter("fcn_resnet101", "fcn", FCN, "resnet101"),
    _segmenter("deeplabv3_resnet50", "aspp", DEEPLABV3, "resnet50"),
    _segmenter("deeplabv3_resnet101", "aspp", DEEPLABV3, "resnet101"),
    _segmenter("deeplabv3_mobilenet_v3_large", "aspp", MOBILE_DEEPLABV3, "mobilenetv3_large"),
    _segmenter("lraspp_mobilenet_v3_large", "lraspp", LRASPP, "mobilenetv3_large"),
)
