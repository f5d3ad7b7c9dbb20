"""Safetensors and NumPy files that no library writes: they are read as meant, or refused."""

import json
import zipfile

import numpy as np
import pytest

from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict


def safetensors_of(path, places, content=b"\0" * 8):
    header = {
        name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for name, (begin, end) in places.items()
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


@pytest.mark.parametrize("places", [[(0, 8)], [(0, 3), (3, 8)], [(3, 8), (0, 3)], [(0, 0), (0, 8)]])
def test_places_one_after_the_other_are_read(tmp_path, places):
    safetensors_of(tmp_path / "w.safetensors", dict(zip("ab", places, strict=False)))
    found = read_state_dict(tmp_path / "w.safetensors")
    assert [len(found[name]) for name in found] == [end - begin for begin, end in places]


@pytest.mark.parametrize(
    "places", [[(0, 9)], [(0, 7)], [(1, 8)], [(0, 4), (3, 8)], [(0, 3), (4, 8)], [(0, 8), (0, 8)]]
)
def test_other_places_are_damaged(tmp_path, places):
    safetensors_of(tmp_path / "w.safetensors", dict(zip("ab", places, strict=False)))
    with pytest.raises(UserError, match="is damaged"):
        read_state_dict(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "U8", "shape": [8]},
        {"dtype": "U8", "shape": [9], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [8], "data_offsets": [0, 8]},
        {"dtype": 3, "shape": [8], "data_offsets": [0, 8]},
        {"dtype": "U8", "shape": [-8], "data_offsets": [0, 8]},
        {"dtype": "U8", "shape": [8], "data_offsets": [8, 0]},
        {"dtype": "U8", "shape": [8], "data_offsets": [0, 8, 8]},
        {"dtype": "U8", "shape": 8, "data_offsets": [0, 8]},
        [],
        None,
    ],
    ids=str,
)
def test_what_describes_no_tensor_is_damaged(tmp_path, fields):
    text = json.dumps({"x": fields}).encode()
    content = len(text).to_bytes(8, "little") + text + b"\0" * 8
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        read_state_dict(tmp_path / "w.safetensors")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 2**62, 2**64 - 1])
def test_headers_of_other_lengths_are_damaged(tmp_path, length):
    (tmp_path / "w.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="is damaged"):
        read_state_dict(tmp_path / "w.safetensors")


# ------------------------------------------------------------------------------ NumPy's archives


@pytest.mark.parametrize("shape", [(2,), (4,), (10**12,), (-3,)])
def test_arrays_of_another_size_than_their_entry_are_damaged(tmp_path, shape):
    np.savez(tmp_path / "plain.npz", x=np.ones(3, np.float32))
    with zipfile.ZipFile(tmp_path / "plain.npz") as file:
        content = file.read("x.npy")
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
        text = str(shape).encode()
        blanks = b"(3,), }" + b" " * (len(text) - 4)
        assert blanks in content
        file.writestr("x.npy", content.replace(blanks, text + b", }"))
    with pytest.raises(UserError, match="is damaged"):
        read_state_dict(tmp_path / "w.npz")


def test_compressed_archives_are_read(tmp_path):
    values = {"x": np.arange(100_000, dtype=np.float32), "y": np.zeros((2, 3))}
    np.savez_compressed(tmp_path / "w.npz", **values)
    found = read_state_dict(tmp_path / "w.npz")
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)


def test_arrays_in_fortran_s_order_are_read(tmp_path):
    value = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez(tmp_path / "w.npz", x=value)
    np.testing.assert_array_equal(read_state_dict(tmp_path / "w.npz")["x"], value)
