"""HRNetV2 for ImageNet: the names of its public repository, which timm uses too."""

from functools import partial
from typing import Any

import flax.linen as nn

from ranet_jax.models.backbones import HRNet
from ranet_jax.models.backbones.hrnet import WIDTHS
from ranet_jax.porting.name_patterns import Entry, Naming, conv_norm, linear, within
from ranet_jax.porting.networks import resnet
from ranet_jax.porting.networks.network import Network, Source, Twin
from ranet_jax.porting.networks.pytorch import timm_network

HRNET = Naming(
    "HRNet",
    (
        *resnet.numbered_stem(),
        *resnet.stages(),
        *within(
            resnet.residual(),
            "stage{s}.{m}.branches.{b}.{k}.",
            "stage{s}_module{m}_branch{b}_block{k}",
        ),
        *conv_norm("transition{t}.{b}", "transition{t}_branch{b}"),
        *conv_norm("transition{t}.{b}.{k}", "transition{t}_branch{b}_down{k}"),
        *conv_norm("stage{s}.{m}.fuse_layers.{i}.{j}", "stage{s}_module{m}_fuse{i}_{j}"),
        *conv_norm(
            "stage{s}.{m}.fuse_layers.{i}.{j}.{k}", "stage{s}_module{m}_fuse{i}_{j}_down{k}"
        ),
        *within(resnet.residual(), "incre_modules.{i}.0.", "incre{i}"),
        *conv_norm("downsamp_modules.{i}", "downsamp{i}"),
        *conv_norm("final_layer", "final"),
        *linear("classifier", "classifier"),
        # If timm's `features_only` leaves out only the classifier, the first blocks before it stay.
        *(Entry(e.source, None) for e in within(resnet.residual(), "incre_modules.{i}.0.", "")),
    ),
    "the public HRNet repository, timm",
)


def _build(width: int, output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
    if output_stride != 4:
        raise ValueError(f"output_stride is {output_stride}, but HRNetV2 supports only 4.")
    return HRNet(width, num_classes=num_classes)


def _twin(width: int, output_stride: int, num_classes: int | None, source: Source) -> Any:
    if num_classes is None:  # leave out the layers in front of the classifier too
        return timm_network(f"hrnet_w{width}", None, features_only=True, feature_location="")
    return timm_network(f"hrnet_w{width}", num_classes)


STAGES = {
    "stem": "act2",
    "layer1": "layer1",
    "stage2": "stage2:0",
    "stage3": "stage3:0",
    "stage4": "stage4:0",
    **{f"stage4_branch{branch}": f"stage4:{branch}" for branch in (1, 2, 3)},
    "logits": "classifier",
}
NETWORKS = tuple(
    Network(
        name,
        (HRNET,),
        4,
        "params/classifier/bias",
        partial(_build, width),
        # Its branches fit together only if the size is a multiple of 32.
        twin=Twin(partial(_twin, width), STAGES, size=(96, 160)),
    )
    for name, width in WIDTHS.items()
)
