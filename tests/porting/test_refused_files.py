"""Files that hold no state dict, or more than one: each is refused in one sentence."""

import os
import pickle
import warnings

import ml_dtypes
import numpy as np
import pytest
import torch

from helpers.state_dict_files import (
    FORMATS,
    both_pickles,
    every_format,
    refusal,
    save_legacy,
    save_safetensors,
    save_zip,
    tensors,
)
from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors", "npz"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "FILE is missing"),
        (b"", "FILE is empty; copy or download it again."),
        (np.random.default_rng(0).bytes(5000), "FILE is damaged or is not a {} file"),
        (b"<!DOCTYPE html>\n<html><body>404. Not found.</body></html>", "FILE is damaged or is"),
        (b"PK\x03\x04 and no more of an archive", "FILE is damaged or is not a {} file"),
        (b"\x80", "FILE is damaged or is not a {} file"),
    ],
    ids=["missing", "empty", "random", "html", "archive", "byte"],
)
def test_what_is_no_state_dict_at_all(tmp_path, ending, content, sentence):
    path = tmp_path / f"w.{ending}"
    if content is not None:
        path.write_bytes(content)
    assert refusal(path).startswith(sentence.format(f".{ending}"))


def test_a_directory_is_no_file(tmp_path):
    (tmp_path / "w.pth").mkdir()
    assert refusal(tmp_path / "w.pth").startswith("FILE is missing")


@pytest.mark.parametrize("name", ["w.h5", "w", "w.tar", "w.PTH.txt"])
def test_unknown_endings_are_told_the_known_ones(tmp_path, name):
    save_zip(tmp_path / name, tensors())
    sentence = refusal(tmp_path / name)
    assert (
        "does not end in any of .pth, .pt, .pth.tar, .ckpt, .bin, .pkl, .safetensors, .npz"
        in sentence
    )


@every_format
def test_truncated_files_are_damaged(tmp_path, name):
    state = {"x": torch.randn(40, 40), "y": torch.arange(7)}
    FORMATS[name](tmp_path / name, state)
    whole = (tmp_path / name).read_bytes()
    for length in (2, len(whole) // 3, len(whole) // 2, len(whole) - 400, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:length])
        assert refusal(tmp_path / name).startswith("FILE is damaged"), length


@pytest.mark.parametrize("name", ["zip.pth", "weights.npz"])
def test_a_flipped_bit_in_the_middle_is_found(tmp_path, name):
    """PyTorch itself reads such a file without complaint."""
    values = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    FORMATS[name](tmp_path / name, {"x": torch.from_numpy(values)})
    content = bytearray((tmp_path / name).read_bytes())
    place = content.index(values.tobytes()[8000:8016])
    content[place] ^= 1
    (tmp_path / name).write_bytes(content)
    if name == "zip.pth":
        assert not np.array_equal(torch.load(tmp_path / name)["x"].numpy(), values)
    assert refusal(tmp_path / name).startswith("FILE is damaged")


def test_legacy_files_with_flipped_bits_end_in_a_sentence_or_in_tensors(tmp_path):
    path = tmp_path / "w.pth"
    save_legacy(path, tensors())
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        content[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            read_state_dict(path)
        except UserError as error:
            refused += 1
            assert str(error).startswith(str(path))
    assert refused > 20


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def save_plain_pickle(path, state):
    path.write_bytes(pickle.dumps(state))


@pytest.mark.parametrize("ending", ["pth", "pt"])
@pytest.mark.parametrize("save", [save_zip, save_legacy, save_plain_pickle])
def test_a_file_that_would_execute_a_command_is_refused_by_name(tmp_path, save, ending):
    witness, path = tmp_path / "ran", tmp_path / f"weights.{ending}"
    save(path, {"state_dict": {"x": torch.ones(2)}, "epoch": Command(f"touch {witness}")})
    if save is not save_plain_pickle:
        assert "would execute posix.system;" in refusal(path)
    else:  # refused earlier, for its tensors or for lack of a magic number
        refusal(path)
    assert not witness.exists()
    if save is not save_plain_pickle:
        torch.load(path, weights_only=False)
        assert witness.exists(), "the file would not have executed anything"


def test_a_program_is_refused(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # about its age
        module = torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2))
        torch.jit.save(module, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith("FILE is a TorchScript program; save only")


def test_a_dictionary_that_holds_itself_is_refused(tmp_path):
    state = {}
    state["model"] = state
    torch.save(state, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith("FILE holds no state dict; save")


@pytest.mark.parametrize("path", ["x" * 300 + ".pth", "/proc/self/mem.pth/w.pth"])
def test_paths_that_no_file_can_have(path):
    with pytest.raises(UserError, match="name a file of weights"):
        read_state_dict(path)


@both_pickles
def test_a_whole_network_is_refused(tmp_path, save):
    save(tmp_path / "w.pth", torch.nn.Linear(2, 3))
    sentence = refusal(tmp_path / "w.pth")
    assert (
        "would execute torch.nn.modules.linear.Linear; save only the network's state_dict()"
        in sentence
    )


def test_objects_of_numpy_are_refused(tmp_path):
    witness = tmp_path / "ran"
    objects = np.array([Command(f"touch {witness}"), None], object)
    np.savez(tmp_path / "w.npz", allow_pickle=True, x=objects)
    assert "would execute code" in refusal(tmp_path / "w.npz")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "FILE holds no state dict; save"),
        ([torch.ones(2)], "FILE holds no state dict; save"),
        (torch.ones(2), "FILE holds no state dict; save"),
        ({"state_dict": {}}, "FILE holds no state dict; save"),
        ({"epoch": 3, "name": "net"}, "FILE holds 'epoch', which is not a tensor; save"),
        ({1: torch.ones(2)}, "FILE holds 1, which is not a tensor; save"),
        ({"x": torch.ones(2), "y": None}, "FILE holds 'y', which is not a tensor; save"),
    ],
)
@both_pickles
def test_what_holds_no_tensors_by_name(tmp_path, save, content, sentence):
    save(tmp_path / "w.pth", content)
    assert refusal(tmp_path / "w.pth").startswith(sentence)


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors"])
def test_archives_of_nothing(tmp_path, name):
    FORMATS[name](tmp_path / name, {})
    assert refusal(tmp_path / name).startswith("FILE holds no state dict")


def unusual(kind):
    with warnings.catch_warnings(action="ignore"):  # about new and old formats
        eye = torch.eye(3)
        return {
            "quantized": lambda: torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8),
            "sparse": eye.to_sparse,
            "rows": eye.to_sparse_csr,
            "complex": lambda: eye.to(torch.complex64),
            "meta": lambda: eye.to("meta"),
        }[kind]()


@pytest.mark.parametrize("kind", ["quantized", "sparse", "rows", "complex", "meta"])
@both_pickles
def test_tensors_that_are_not_dense_and_real(tmp_path, save, kind):
    with warnings.catch_warnings(action="ignore"):
        save(tmp_path / "w.pth", {"good": torch.ones(2), "bad": unusual(kind)})
    sentence = refusal(tmp_path / "w.pth")
    assert sentence.startswith(
        "FILE holds 'bad', which is not a dense tensor of a usual type; save"
    )


@pytest.mark.parametrize(
    "array", [np.array([1j]), np.array(["x"]), np.ones(2, ml_dtypes.bfloat16).view("V2")]
)
def test_arrays_that_are_not_real_numbers(tmp_path, array):
    np.savez(tmp_path / "w.npz", good=np.ones(2), bad=array)
    assert refusal(tmp_path / "w.npz").startswith("FILE holds 'bad', which is not a dense tensor")


def test_safetensors_of_types_that_are_not_numpy_s(tmp_path):
    save_safetensors(tmp_path / "c.safetensors", {"bad": torch.ones(2, dtype=torch.complex64)})
    assert refusal(tmp_path / "c.safetensors").startswith("FILE holds 'bad', which is not a dense")
    save_safetensors(tmp_path / "f.safetensors", {"x": torch.ones(2).to(torch.float8_e4m3fn)})
    assert refusal(tmp_path / "f.safetensors").startswith("FILE holds 'x', which is not a dense")
