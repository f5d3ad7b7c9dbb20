"""Segmenters of segmentation_models.pytorch: its decoders on ResNets and MobileNetV2."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models.backbones.resnet import BLOCKS
from ranet_jax.porting.files import import_optional
from ranet_jax.porting.name_patterns import Entry, Naming, conv, conv_norm, group_norm, norm, within
from ranet_jax.porting.networks import mobilenet, resnet
from ranet_jax.porting.networks.network import PublishedSegmenter, Source, Twin
from ranet_jax.porting.networks.pytorch import import_torchvision


@dataclass(frozen=True)
class Decoder:
    """A decoder with the library's default settings.

    Attributes:
      name: the library's class.
      entries: names of its tensors.
      model: fields of `config.model` that describe it.
      size: size of an image that the library's network takes.
      strides: output strides that the library's network can have.
      older: names of its tensors before version 0.5, if they were different.
    """

    name: str
    entries: tuple[Entry, ...]
    model: dict[str, Any]
    size: tuple[int, int]
    strides: tuple[int, ...]
    older: tuple[Entry, ...] = ()


def _separable(source: str, first: int, target: str) -> list[Entry]:
    """A convolution of each channel by itself, one of 1 x 1, and BatchNorm in the next place."""
    return [
        *conv(f"{source}.{first}.0", f"{target}/depthwise"),
        *conv(f"{source}.{first}.1", f"{target}/pointwise/conv"),
        *norm(f"{source}.{first + 1}", f"{target}/pointwise/bn"),
    ]


def _deeplabv3(aspp: str, convolution: str, batch_norm: str) -> tuple[Entry, ...]:
    """DeepLabV3's decoder, given the names of its parts."""
    return (
        *conv(f"decoder.{aspp}.convs.4.1", "context/aspp/pool/conv"),
        *norm(f"decoder.{aspp}.convs.4.2", "context/aspp/pool/bn"),
        *conv_norm(f"decoder.{aspp}.convs.{{i}}", "context/aspp/branch{i}"),
        *conv_norm(f"decoder.{aspp}.project", "context/aspp/project"),
        *conv(f"decoder.{convolution}", "context/fuse/conv"),
        *norm(f"decoder.{batch_norm}", "context/fuse/bn"),
    )


UNET = Decoder(
    "Unet",
    tuple(conv_norm("decoder.blocks.{i}.conv{n}", "context/step{i}_conv{n}")),
    {"context": "unet", "channels": 256, "dropout": 0.0, "output_stride": 32},
    size=(97, 130),
    strides=(32,),
)
FPN = Decoder(
    "FPN",
    (
        *conv("decoder.p5", "context/lateral0"),
        *conv("decoder.p4.skip_conv", "context/lateral1"),
        *conv("decoder.p3.skip_conv", "context/lateral2"),
        *conv("decoder.p2.skip_conv", "context/lateral3"),
        *conv("decoder.seg_blocks.{i}.block.{n}.block.0", "context/smooth{i}_{n}/conv"),
        *group_norm("decoder.seg_blocks.{i}.block.{n}.block.1", "context/smooth{i}_{n}/gn"),
    ),
    {"context": "fpn", "channels": 128, "dropout": 0.2, "output_stride": 32},
    size=(96, 160),
    strides=(32,),
)
DEEPLABV3 = Decoder(
    "DeepLabV3",
    _deeplabv3("aspp", "conv", "bn"),
    {
        "context": "aspp",
        "aspp_rates": (12, 24, 36),
        "channels": 256,
        "dropout": 0.0,  # it has its dropout between ASPP and the last convolution
        "output_stride": 8,
        "dilate_first_block": True,
    },
    size=(96, 144),
    strides=(8, 16),
    older=_deeplabv3("0", "1", "2"),
)
DEEPLABV3PLUS = Decoder(
    "DeepLabV3Plus",
    (
        *conv_norm("decoder.aspp.0.convs.0", "context/aspp/branch0"),
        *conv("decoder.aspp.0.convs.4.1", "context/aspp/pool/conv"),
        *norm("decoder.aspp.0.convs.4.2", "context/aspp/pool/bn"),
        *_separable("decoder.aspp.0.convs.{i}", 0, "context/aspp/branch{i}"),
        *conv_norm("decoder.aspp.0.project", "context/aspp/project"),
        *_separable("decoder.aspp", 1, "context/refine"),
        *conv_norm("decoder.block1", "context/shallow_reduce"),
        *_separable("decoder.block2", 0, "context/fuse"),
    ),
    {
        "context": "deeplabv3plus",
        "variant": "segmentation_models",
        "aspp_rates": (12, 24, 36),
        "channels": 256,
        "dropout": 0.0,  # as above
        "output_stride": 16,
        "dilate_first_block": True,
    },
    size=(96, 144),
    strides=(8, 16),
)
PSPNET = Decoder(
    "PSPNet",
    (
        *conv("decoder.psp.blocks.0.pool.1.0", "context/pool1"),
        *conv_norm("decoder.psp.blocks.1.pool.1", "context/pool2"),
        *conv_norm("decoder.psp.blocks.2.pool.1", "context/pool3"),
        *conv_norm("decoder.psp.blocks.3.pool.1", "context/pool6"),
        *conv_norm("decoder.conv", "context/fuse"),
    ),
    {
        "context": "psp",
        "variant": "segmentation_models",
        "channels": 512,
        "dropout": 0.2,
        "output_stride": 8,
        "stages": 2,
    },
    size=(96, 136),
    strides=(8,),
)
# Fields, besides the block, that decide which networks a decoder's names fit, and usual values.
KIND = {"variant": "paper", "dilate_first_block": False}
RESNET_STAGES = {"stem": "relu", **resnet.LAYERS}
MOBILENET_STAGES = {name: at for name, at in mobilenet.STAGES.items() if name != "logits"}


def _namings(encoder: Naming, decoder: Decoder) -> list[Naming]:
    """The namings of a whole segmenter: the current one and, if it differs, the one before.

    A PSPNet reads only the encoder's first stages; its file holds all of them.
    """
    entries = within(encoder.entries, "encoder.", "backbone")
    unread = [replace(entry, target=None) for entry in entries] if decoder is PSPNET else []
    head = conv("segmentation_head.0", "fine_logit")
    library = "segmentation_models.pytorch"
    return [
        Naming(name, (*entries, *table, *head, *unread), users)
        for name, table, users in (
            ("segmentation_models", decoder.entries, library),
            ("segmentation_models_0.4", decoder.older, f"{library} before version 0.5"),
        )
        if table
    ]


def _config(backbone: str, decoder: Decoder) -> ConfigDict:
    config = default_config()
    config.data.name = "folder"
    config.model.update(decoder.model, backbone=backbone)
    config.model.read_head = backbone == "mobilenetv2" and decoder in (DEEPLABV3, DEEPLABV3PLUS)
    return config


def _twin(
    encoder: str, decoder: Decoder, output_stride: int, num_classes: int | None, source: Source
) -> Any:
    import_torchvision()  # the package imports it
    package = import_optional("segmentation_models_pytorch", "verify a network")
    if output_stride not in decoder.strides:
        raise UserError(
            f"segmentation_models.pytorch has no {decoder.name} of output stride {output_stride}"
            " to compare with; leave the comparison out."
        )
    chosen = {"encoder_output_stride": output_stride} if len(decoder.strides) > 1 else {}
    build = getattr(package, decoder.name)
    model = build(encoder, encoder_weights=None, classes=num_classes, **chosen)
    if decoder is PSPNET:  # it reads nothing beyond a stride of 8
        if hasattr(model.encoder, "features"):
            del model.encoder.features[7:]
        else:
            del model.encoder.layer3, model.encoder.layer4
    return model


def _segmenters(
    decoder: Decoder, encoders: dict[str, str], naming: Naming, stages: dict[str, str]
) -> list[PublishedSegmenter]:
    """A decoder on encoders of one kind, given by our names and the library's names."""
    of_whole, *older = _namings(naming, decoder)
    places = {stage: f"encoder.{at}" for stage, at in stages.items()}
    places["fine"] = "segmentation_head.0"

    kind = {"context": decoder.model["context"]}
    kind |= {field: decoder.model.get(field, usual) for field, usual in KIND.items()}

    def fits(model: ConfigDict) -> bool:
        return model.backbone in encoders and all(model[k] == v for k, v in kind.items())

    return [
        PublishedSegmenter(
            f"smp_{decoder.name.lower()}_{backbone}",
            partial(_config, backbone, decoder),
            of_whole,
            fits,
            twin=Twin(partial(_twin, encoder, decoder), places, size=decoder.size),
            older=tuple(older),
        )
        for backbone, encoder in encoders.items()
    ]


RESNETS = {f"resnet{depth}": f"resnet{depth}" for depth in BLOCKS}
MOBILENETS = {"mobilenetv2": "mobilenet_v2"}
SEGMENTERS = tuple(
    segmenter
    for decoder in (UNET, FPN, DEEPLABV3, DEEPLABV3PLUS, PSPNET)
    for segmenter in (
        *_segmenters(decoder, RESNETS, resnet.TORCHVISION, RESNET_STAGES),
        *_segmenters(decoder, MOBILENETS, mobilenet.TORCHVISION, MOBILENET_STAGES),
    )
)
