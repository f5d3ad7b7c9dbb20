"""segmentation_models.pytorch: its segmenters with random weights, and its decoders with ours."""

import warnings

import jax
import numpy as np
import torch

from helpers.torch_layers import channels_first, channels_last
from helpers.torch_networks import randomised
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.files import to_torch
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.port import flatten

with warnings.catch_warnings(action="ignore"):
    import segmentation_models_pytorch as package

__all__ = ["decode", "package", "segmenter"]

KINDS = ("Unet", "FPN", "DeepLabV3", "DeepLabV3Plus", "PSPNet")
ENCODERS = {"mobilenetv2": "mobilenet_v2"}


def segmenter(name, classes=4, **settings):
    """The library's segmenter that we call `smp_DECODER_BACKBONE`."""
    _, decoder, backbone = name.split("_")
    build = {kind.lower(): kind for kind in KINDS}[decoder]
    torch.manual_seed(0)
    model = getattr(package, build)(
        ENCODERS.get(backbone, backbone), encoder_weights=None, classes=classes, **settings
    )
    return randomised(model)


def decode(decoder, entries, variables, stages):
    """The output of a decoder of the library for stages, with the variables of a context block."""
    arrays = flatten({kind: {"context": tree} for kind, tree in variables.items()})
    arrays = {path: np.asarray(array) for path, array in arrays.items()}
    tensors = to_tensors(arrays, Naming("decoder", entries))
    tensors = {k.removeprefix("decoder."): to_torch(v) for k, v in tensors.items()}
    left_out = decoder.load_state_dict(tensors, strict=False)
    assert not left_out.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in left_out.missing_keys)
    with torch.no_grad():
        return channels_last(decoder.double().eval()(jax.tree.map(channels_first, stages)))
