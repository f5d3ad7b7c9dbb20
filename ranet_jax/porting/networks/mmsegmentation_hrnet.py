"""mmsegmentation's OCRNet on HRNetV2."""

import warnings
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.config import default_config
from ranet_jax.models.backbones.hrnet import WIDTHS
from ranet_jax.porting.networks.hrnet import HRNET
from ranet_jax.porting.networks.mmsegmentation import VARIANT, run_heads
from ranet_jax.porting.networks.mmsegmentation_config import adapt
from ranet_jax.porting.networks.mmsegmentation_heads import OCRNET, head_naming
from ranet_jax.porting.networks.network import PublishedSegmenter, Source, Twin
from ranet_jax.porting.networks.pytorch import import_mmsegmentation

NAMING = head_naming(OCRNET, HRNET)
STAGES = {
    "layer1": "backbone.layer1",
    **{f"stage{stage}": f"backbone.stage{stage}:0" for stage in (2, 3, 4)},
    **{f"stage4_branch{branch}": f"backbone.stage4:{branch}" for branch in (1, 2, 3)},
    "coarse": f"{OCRNET.early}.conv_seg",
    "fine": f"{OCRNET.last}.conv_seg",
}


def _config(backbone: str) -> ConfigDict:
    config = default_config()
    config.data.name = "folder"
    config.model.update(
        backbone=backbone,
        output_stride=4,
        fusion="bilinear",
        context=OCRNET.context,
        variant=VARIANT,
        align_corners=False,
        dropout=0.0,
    )
    return config


def _fits(model: ConfigDict) -> bool:
    settings = (model.context, model.variant, model.fusion, model.channels)
    return model.backbone in WIDTHS and settings == (OCRNET.context, VARIANT, "bilinear", 512)


def _twin(
    width: int, output_stride: int, num_classes: int | None, source: Source, align_corners: bool
) -> Any:
    library = import_mmsegmentation()
    branches = [width * 2**branch for branch in range(4)]
    shared: dict[str, Any] = {
        "num_classes": num_classes,
        "in_channels": branches,
        "in_index": (0, 1, 2, 3),
        "input_transform": "resize_concat",
        "norm_cfg": {"type": "BN"},
        "align_corners": align_corners,
        "dropout_ratio": -1,
    }
    early = {"type": "FCNHead", "channels": sum(branches), "num_convs": 1, "kernel_size": 1}
    stages = {
        f"stage{stage}": {
            "num_modules": modules,
            "num_branches": stage,
            "block": "BASIC",
            "num_blocks": (4,) * stage,
            "num_channels": branches[:stage],
        }
        for stage, modules in ((2, 1), (3, 4), (4, 3))
    }
    stages["stage1"] = {
        "num_modules": 1,
        "num_branches": 1,
        "block": "BOTTLENECK",
        "num_blocks": (4,),
        "num_channels": (64,),
    }
    settings = {
        "type": "CascadeEncoderDecoder",
        "num_stages": 2,
        "backbone": {"type": "HRNet", "extra": stages, "norm_cfg": {"type": "BN"}},
        "decode_head": [
            shared | early | {"concat_input": False},
            shared | {"type": "OCRHead", "channels": 512, "ocr_channels": 256},
        ],
    }
    with warnings.catch_warnings(action="ignore"):  # about settings that are right as they are
        segmenter = library.build_segmentor(settings)
    segmenter.forward = partial(run_heads, segmenter)
    return segmenter


SEGMENTERS = tuple(
    PublishedSegmenter(
        f"ocrnet_hr{width}",
        partial(_config, backbone),
        NAMING,
        _fits,
        twin=Twin(partial(_twin, width), STAGES, NAMING, settings=("align_corners",)),
        adapt=adapt,
    )
    for backbone, width in WIDTHS.items()
)
