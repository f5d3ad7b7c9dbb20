"""mmsegmentation's segmenters on ResNets with a v1c stem."""

import math
import warnings
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.networks import resnet
from ranet_jax.porting.networks.mmsegmentation_config import adapt
from ranet_jax.porting.networks.mmsegmentation_heads import HEADS, RATES, Head, head_naming
from ranet_jax.porting.networks.network import PublishedSegmenter, Source, Twin
from ranet_jax.porting.networks.pytorch import import_mmsegmentation

VARIANT = "mmsegmentation"
# Channels of the heads, by the ResNet's depth.
CHANNELS = {18: 128, 34: 128, 50: 512, 101: 512}
# The settings with which a config can change the library's network.
SETTINGS = ("align_corners", "aspp_rates", "mask_size")
# PSANet's masks for comparing pairs of pixels, and mmcv's compiled operator that lays them out.
MASKS = "params/context/collect_offsets/kernel"
MASK_OPERATOR = "psamask_forward"


def _config(head: Head, depth: int) -> ConfigDict:
    config = default_config()
    config.data.name = "folder"
    config.model.update(
        backbone=f"resnet{depth}",
        stem="v1c",
        dilate_second=False,
        context=head.context,
        variant=VARIANT,
        channels=CHANNELS[depth],
        align_corners=False,
    )
    if head.has_rates:
        config.model.aspp_rates = RATES
    return config


def _fits(head: Head, model: ConfigDict) -> bool:
    """Whether mmsegmentation has a network that computes the same, except for aligned corners."""
    depth = next((d for d in CHANNELS if model.backbone == f"resnet{d}"), None)
    return (
        depth is not None
        and model.context == head.context
        and (model.variant == VARIANT or not head.has_variant)
        and (model.stem, model.stages, model.width) == ("v1c", 4, 64)
        and model.channels == CHANNELS[depth]
        and (depth >= 50 or not model.dilate_second)
        and len(model.aspp_rates) == (len(RATES) if head.has_rates else 0)
    )


def fit_masks(model: ConfigDict, source: Source) -> None:
    """Set a PSANet's `mask_size` to a square of as many entries as a state dict's masks have.

    If the config's `mask_size` already has as many, it stays.

    Args:
      model: the `model` section of a config, which is changed.
      source: shapes of the state dict.

    Raises:
      UserError: there is no such square.
    """
    shape = source(MASKS)
    if not shape or shape[0] == math.prod(model.mask_size):
        return
    side = math.isqrt(shape[0])
    if side**2 != shape[0] or side == 0:
        raise UserError(
            f"PSANet's masks have {shape[0]} entries in the file, which is not a square number;"
            " name a file that holds mmsegmentation's config with mask_size."
        )
    model.mask_size = (side, side)


def _twin(
    head: Head,
    depth: int,
    output_stride: int,
    num_classes: int | None,
    source: Source,
    align_corners: bool,
    aspp_rates: tuple[int, ...],
    mask_size: tuple[int, int],
) -> Any:
    library = import_mmsegmentation(MASK_OPERATOR if head.has_masks else None)
    width = CHANNELS[depth]
    stages = [channels * (1 if depth < 50 else 4) for channels in (64, 128, 256, 512)]
    shared: dict[str, Any] = {
        "num_classes": num_classes,
        "norm_cfg": {"type": "BN"},
        "align_corners": align_corners,
    }
    last = {"in_channels": stages[3], "in_index": 3, "channels": width} | shared
    early = {"in_channels": stages[2], "in_index": 2, "channels": stages[2] // 4} | shared
    early |= {"type": "FCNHead", "num_convs": 1, "concat_input": False}
    last |= head.settings(stages, width)
    if head.has_rates:
        last["dilations"] = (1, *aspp_rates)
    if head.has_masks:
        last["mask_size"] = mask_size
    strides, dilations = _strides(output_stride)
    settings: dict[str, Any] = {
        "type": "EncoderDecoder",
        "backbone": {
            "type": "ResNetV1c",
            "depth": depth,
            "strides": strides,
            "dilations": dilations,
            "contract_dilation": True,
            "norm_cfg": {"type": "BN"},
        },
        "decode_head": last,
    }
    if head.is_cascade:
        settings |= {"type": "CascadeEncoderDecoder", "num_stages": 2, "decode_head": [early, last]}
    elif source("params/auxiliary/logit/bias") is not None:
        settings["auxiliary_head"] = early
    with warnings.catch_warnings(action="ignore"):  # about settings that are right as they are
        segmenter = library.build_segmentor(settings)
    segmenter.forward = partial(run_heads, segmenter)
    return segmenter


def run_heads(segmenter: Any, images: Any) -> None:
    """Run all heads; the library itself leaves out the auxiliary one if no loss is asked for."""
    with warnings.catch_warnings(action="ignore"):  # about sizes that do not suit aligned corners
        features = segmenter.backbone(images)
        if hasattr(segmenter, "num_stages"):
            first, last = segmenter.decode_head
            last(features, first(features))
            return
        segmenter.decode_head(features)
        if segmenter.with_auxiliary_head:
            segmenter.auxiliary_head(features)


def _strides(output_stride: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations of a ResNet's four stages, of which the first has stride 4."""
    strides, dilations, dilation, so_far = [1], [1], 1, 4
    for _ in range(3):
        stride = 2 if 2 * so_far <= output_stride else 1
        so_far, dilation = so_far * stride, dilation * 2 // stride
        strides.append(stride)
        dilations.append(dilation)
    return tuple(strides), tuple(dilations)


def _segmenter(head: Head, naming: Naming, depth: int) -> PublishedSegmenter:
    places = {
        "stem": "backbone.stem",
        **{name: f"backbone.{name}" for name in resnet.LAYERS},
        "fine": f"{head.last}.conv_seg",
        "coarse": f"{head.early}.conv_seg",
    }
    return PublishedSegmenter(
        f"{head.name}_r{depth}-d8",
        partial(_config, head, depth),
        naming,
        partial(_fits, head),
        optional_auxiliary=not head.is_cascade,
        twin=Twin(partial(_twin, head, depth), places, naming, settings=SETTINGS),
        adapt=adapt,
        fit_shapes=fit_masks if head.has_masks else None,
    )


SEGMENTERS = tuple(
    _segmenter(head, naming, depth)
    for head in HEADS
    for naming in [head_naming(head)]
    for depth in head.depths
)
