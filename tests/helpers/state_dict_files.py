"""State dicts in every format, and the sentence that a file is refused with."""

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict

VALUES = {
    "conv.weight": np.array([[0.5, -1.25], [3e-8, 7e12]], np.float32),
    "bn.running_var": np.array([1.5], np.float32),
    "bn.num_batches_tracked": np.array(2**40 + 3, np.int64),
}


def tensors(values=VALUES):
    return {name: torch.from_numpy(np.array(value)) for name, value in values.items()}


def save_zip(path, state):
    torch.save(state, path)


def save_legacy(path, state):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_safetensors(path, state):
    safetensors.torch.save_file(state, path)


def save_npz(path, state):
    np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})


FORMATS = {
    "zip.pth": save_zip,
    "legacy.pth": save_legacy,
    "zip.pt": save_zip,
    "legacy.pt": save_legacy,
    "weights.safetensors": save_safetensors,
    "weights.npz": save_npz,
}


every_format = pytest.mark.parametrize("name", FORMATS)


both_pickles = pytest.mark.parametrize("save", [save_zip, save_legacy])


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert isinstance(found[name], np.ndarray)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        np.testing.assert_array_equal(found[name], value)


def refusal(path):
    """The one sentence with which a file is refused; it names the file."""
    with pytest.raises(UserError) as caught:
        read_state_dict(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    rest = sentence.replace(str(path), "FILE")
    assert ". " not in rest
    assert "\n" not in rest
    return rest
