"""`ranet port` as a function, and a data set and config for it."""

import numpy as np
import safetensors.numpy
import torch

from ranet_jax.cli import main
from ranet_jax.pipeline.metadata import DatasetMetadata

CONFIG = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.update(name="toy", crop_size=(24, 24))
    config.model.update(
        backbone="resnet18", width=4, stages=2, channels=8, num_regions=4, per_region=2
    )
    return config
"""


DATASET = DatasetMetadata("toy", ("left", "right"), ((200, 0, 0), (0, 0, 200)))


def files(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def command(*arguments):
    return main(["port", *map(str, arguments)])


def read_back(path):
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value = np.asarray(value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert found[name].tobytes() == value.tobytes(), name
