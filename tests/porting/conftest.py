"""A state dict, and a file that holds one."""

import sys
import types

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


@pytest.fixture
def toolbox(monkeypatch):
    """Make classes of toolboxes that need not be installed; modules are restored at the end."""

    def make(name, base, **body):
        module, _, attribute = name.rpartition(".")
        kind = type(attribute, (base,), {"__module__": module, **body})
        parts = module.split(".")
        for last in range(1, len(parts) + 1):
            package = ".".join(parts[:last])
            sys.modules.setdefault(package, types.ModuleType(package))
        monkeypatch.setattr(sys.modules[module], attribute, kind, raising=False)
        return kind

    before = set(sys.modules)
    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]
