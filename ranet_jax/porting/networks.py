"""The networks that can be carried over: how each is built to fit a state dict, and its names."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.models.backbones import HRNet, MobileNetV2, ResNet
from ranet_jax.models.backbones.resnet import BLOCKS
from ranet_jax.pipeline.metadata import IGNORE_LABEL
from ranet_jax.porting import name_tables
from ranet_jax.porting.coverage import Shape
from ranet_jax.porting.name_patterns import Naming

# Shape of the tensor that an array of the module is made of, or None if the state dict has none.
Source = Callable[[str], Shape | None]
FINE_CLASSIFIER = "params/fine_logit/bias"


@dataclass(frozen=True)
class Network:
    """A network by name.

    Attributes:
      name: what users call it.
      namings: what its tensors are called, in one library or another.
      output_stride: the usual one.
      classifier: the array with an entry for each class; a state dict without it is of a backbone
        alone.
      build: the module, of an output stride, a number of classes (None for no classifier) and
        what the state dict holds.
      config: of a segmenter, the experiment that it is the model of.
    """

    name: str
    namings: tuple[Naming, ...]
    output_stride: int
    classifier: str
    build: Callable[[int, int | None, Source], nn.Module]
    config: ConfigDict | None = None


def find_network(model: str | ConfigDict) -> Network:
    """The network of a name, or the segmenter of a config.

    Raises:
      UserError: there is none of the name.
    """
    if isinstance(model, ConfigDict):
        return _segmenter("segmenter", model)
    if model not in NETWORKS:
        raise UserError(
            f"There is no network {model!r} to carry over; choose one of {', '.join(NETWORKS)},"
            " or a file of configs/."
        )
    return NETWORKS[model]()


def _resnet(depth: int, deep: bool = False) -> Network:
    def build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
        stem = "conv7"
        if deep:
            last = source("params/conv3/kernel")
            stem = "deep" if last is not None and last[:1] == (128,) else "v1c"
        return ResNet(depth, output_stride=output_stride, stem=stem, num_classes=num_classes)

    namings = (
        (name_tables.RESNET, name_tables.RESNET_MMSEG, name_tables.RESNET_TIMM)
        if deep
        else (name_tables.RESNET,)
    )
    suffix = "_v1c" if deep else ""
    return Network(f"resnet{depth}{suffix}", namings, 32, "params/fc/bias", build)


def _hrnet() -> Network:
    def build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
        if output_stride != 4:
            raise ValueError(f"HRNetV2's output_stride is {output_stride}; it has 4 alone.")
        return HRNet(num_classes=num_classes)

    return Network("hrnetv2_w48", (name_tables.HRNET,), 4, "params/classifier/bias", build)


def _mobilenet() -> Network:
    def build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
        return MobileNetV2(output_stride=output_stride, num_classes=num_classes)

    namings = (name_tables.MOBILENETV2, name_tables.MOBILENETV2_FLAT)
    return Network("mobilenetv2", namings, 32, "params/classifier/bias", build)


def _segmenter(name: str, config: ConfigDict, optional_auxiliary: bool = False) -> Network:
    config = copy.deepcopy(config)  # which what is found in a state dict changes
    model = config.model
    if model.backbone not in NETWORKS or NETWORKS[model.backbone]().config is not None:
        raise UserError(f"There are no names for config.model.backbone {model.backbone!r}.")
    is_resnet = model.backbone.startswith("resnet")
    own = name_tables.segmenter_naming(NETWORKS[model.backbone]().namings[0])
    others = []
    if is_resnet and model.context == "fcn":
        others = [name_tables.FCN]
    elif is_resnet and model.context == "aspp":
        others = [name_tables.DEEPLABV3]
    elif model.context == "ranet" and model.variant == "released":
        others = [name_tables.RELEASED]

    namings = (*others, own)
    classifiers = [entry.source for n in namings if (entry := n.to_source(FINE_CLASSIFIER))]

    def build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
        if num_classes is None:
            raise UserError(
                f"The weights hold no classifier ({' or '.join(classifiers)}), without which there"
                f" is no {name}; name the network they belong to, or --num-classes of a new one."
            )
        if num_classes > IGNORE_LABEL:
            raise UserError(
                f"The classifier has {num_classes} classes; a segmenter has {IGNORE_LABEL} at most,"
                " as its labels are bytes and one value is ignored."
            )
        with model.unlocked():
            model.output_stride = output_stride
            model.dtype = "float32"
            if optional_auxiliary:
                model.auxiliary = source("params/auxiliary/logit/bias") is not None
        return build_model(config, num_classes)

    return Network(name, namings, model.output_stride, FINE_CLASSIFIER, build, config)


def _torchvision_segmenter(name: str, context: str) -> Network:
    config = default_config()
    config.data.name = "folder"
    config.model.backbone = "resnet101"
    config.model.context = context
    if context == "aspp":
        config.model.aspp_rates = (12, 24, 36)
        config.model.channels = 256
        config.model.dropout = 0.0  # it has its dropout between ASPP and the last convolution
    return _segmenter(name, config, optional_auxiliary=True)


def _released() -> Network:
    config = default_config()
    config.data.name = "cityscapes"
    config.data.mean = (122.67891434, 116.66876762, 104.00698793)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.channel_order = "bgr"
    config.model.variant = "released"
    config.model.stem = "deep"
    config.loss.boundary = 0.4 * 0.2
    config.loss.boundary_target = "pixels"
    config.eval.mode = "slide"
    return _segmenter("ranet_released", config)


NETWORKS: dict[str, Callable[[], Network]] = {
    **{f"resnet{depth}": partial(_resnet, depth) for depth in BLOCKS},
    "resnet101_v1c": partial(_resnet, 101, deep=True),
    "hrnetv2_w48": _hrnet,
    "mobilenetv2": _mobilenet,
    "fcn_resnet101": partial(_torchvision_segmenter, "fcn_resnet101", "fcn"),
    "deeplabv3_resnet101": partial(_torchvision_segmenter, "deeplabv3_resnet101", "aspp"),
    "ranet_released": _released,
}
