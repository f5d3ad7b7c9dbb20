"""mmsegmentation's own networks, built from the configs that are installed with it."""

import itertools
import pathlib
import sys
import warnings
from typing import Any

import torch

from helpers.torch_networks import randomised
from ranet_jax.porting.networks.pytorch import import_mmsegmentation

STAGES = {"stem": "backbone.stem", **{f"layer{n}": f"backbone.layer{n}" for n in (1, 2, 3, 4)}}
# Weights that start at 0, where what they multiply would not be compared, and the weights of
# PSANet's masks, which start so small that each pixel gathers equally from all pixels.
ZEROS = ("gamma.scale", "out_project.weight", "conv_out.bn.weight")
SMALL = ("attention.1.weight", "attention_p.1.weight")


def published(name, crop="512x1024", classes=4, **head):
    """The network of a Cityscapes config, with random weights and statistics.

    Without such a config, the network is that of the base file that such configs start from. `head`
    holds further settings of the decode head.
    """
    library = with_operators()
    configs = _configs()
    base = configs / f"_base_/models/{name}.py"
    path = min(configs.glob(f"*/{name}_*k_cityscapes-{crop}.py"), default=base)
    with warnings.catch_warnings(action="ignore"):
        config = _read(path).model.to_dict()
        config |= {"data_preprocessor": None, "pretrained": None}
        if head:
            config["decode_head"] |= head
        torch.manual_seed(0)
        model = randomised(library.build_segmentor(_for_one_process(config, classes)))
    for parameter, values in model.named_parameters():
        if parameter.endswith(ZEROS + SMALL):
            torch.nn.init.normal_(values, std=0.2)
    return model


def with_operators():
    """The library, with our own operator where mmcv-lite has none."""
    library = import_mmsegmentation()
    operators: Any = sys.modules["mmcv._ext"]
    if operators.psamask_forward is None:
        operators.psamask_forward = lay_out_masks
    return library


def lay_out_masks(
    masks, pairs, psa_type, num_, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask
):
    """Do what mmcv's compiled `psamask_forward` does, written from PSANet's definition.

    Entry (p, q) of the mask of pixel (y, x) belongs to pixel (v, u) = (y + p - half, x + q - half).
    With type 0, pixel (y, x) collects from pixel (v, u), and (v, u) is the channel of the pairs;
    otherwise pixel (y, x) distributes to pixel (v, u), and (y, x) is the channel.
    """
    masks = masks.view(num_, h_mask, w_mask, h_feature, w_feature)
    pairs = pairs.view(num_, h_feature, w_feature, h_feature, w_feature)
    rows, columns = range(h_feature), range(w_feature)
    for y, x, v, u in itertools.product(rows, columns, rows, columns):
        p, q = v - y + half_h_mask, u - x + half_w_mask
        if 0 <= p < h_mask and 0 <= q < w_mask:
            place = (v, u, y, x) if psa_type == 0 else (y, x, v, u)
            pairs[:, *place] = masks[:, p, q, y, x]


def config_text(path):
    """The text of a config, as a checkpoint holds it."""
    with warnings.catch_warnings(action="ignore"):
        return _read(_configs() / path).pretty_text


def _configs():
    return pathlib.Path(import_mmsegmentation().__file__).parents[1] / ".mim/configs"


def _read(path):
    from mmengine.config import Config

    return Config.fromfile(path)


def _for_one_process(config, classes):
    """The settings with the given number of classes, and BatchNorm that is not synchronised."""
    if isinstance(config, dict):
        known = {"num_classes": classes} if "num_classes" in config else {}
        kind = {"type": "BN"} if config.get("type") == "SyncBN" else {}
        return {k: _for_one_process(v, classes) for k, v in config.items()} | known | kind
    if isinstance(config, list | tuple):
        return type(config)(_for_one_process(entry, classes) for entry in config)
    return config


def run_heads(model):
    """Let a call of the network run its auxiliary head too, which the library leaves out."""
    decode = model.forward

    def forward(images):
        with warnings.catch_warnings(action="ignore"):  # about sizes for aligned corners
            decode(images)
            if getattr(model, "with_auxiliary_head", False):
                model.auxiliary_head(model.extract_feat(images))

    model.forward = forward
    return model
