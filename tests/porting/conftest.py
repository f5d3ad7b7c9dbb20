"""A state dict, and a file of one."""

import numpy as np
import pytest
import torch

from helpers.torch_networks import timm


@pytest.fixture(scope="module")
def resnet18():
    """State dict of a ResNet-18 with five classes, as arrays."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=5)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.fixture
def saved(tmp_path):
    def save(state):
        path = tmp_path / "weights.npz"
        np.savez(path, **state)
        return path

    return save
