"""PyTorch's functions in float64 on the parameters of our layers; maps are [b, c, h, w]."""

import numpy as np
import torch

functional = torch.nn.functional


def tensor(array):
    return torch.from_numpy(np.asarray(array, np.float64))


def channels_first(maps):
    return tensor(maps).permute(0, 3, 1, 2)


def channels_last(maps):
    return maps.permute(0, 2, 3, 1).numpy()


def conv(x, params):
    """`nn.Conv` with the padding that keeps the size."""
    weight = tensor(params["kernel"]).permute(3, 2, 0, 1)
    bias = tensor(params["bias"]) if "bias" in params else None
    return functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def conv_bn_relu(x, variables, name):
    """The `ConvBN` of a name, with running statistics."""
    return conv_bn(x, variables, name).relu()


def conv_bn(x, variables, name):
    """`ConvBN` without activation."""
    params, stats = variables["params"][name], variables["batch_stats"][name]["bn"]
    norm = [stats["mean"], stats["var"], params["bn"]["scale"], params["bn"]["bias"]]
    x = conv(x, params["conv"])
    return functional.batch_norm(x, *map(tensor, norm), eps=1e-5)


def resize(x, shape):
    return functional.interpolate(x, size=shape, mode="bilinear", align_corners=True)
