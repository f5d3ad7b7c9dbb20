"""State dicts in files: what each format gives, and what is written."""

import pathlib
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from helpers.state_dict_files import (
    FORMATS,
    VALUES,
    assert_same,
    both_pickles,
    every_format,
    save_legacy,
    save_zip,
    tensors,
)
from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict, write_state_dict
from ranet_jax.porting.files import WRITERS

# ------------------------------------------------------------------------------------- reading


@every_format
def test_every_format_gives_the_same_values(tmp_path, name):
    FORMATS[name](tmp_path / name, tensors())
    assert_same(read_state_dict(tmp_path / name), VALUES)


HALVES = [1.0, -2.5, 0.0, 65504.0, 2.0**-24, 1 / 3]


@pytest.mark.parametrize("save_as", ["zip.pth", "legacy.pth", "weights.safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_as_it_is(tmp_path, save_as, dtype):
    FORMATS[save_as](tmp_path / save_as, {"x": torch.tensor(HALVES, dtype=getattr(torch, dtype))})
    numpy_dtype = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    expected = np.array([numpy_dtype(value) for value in HALVES], numpy_dtype)
    assert_same(read_state_dict(tmp_path / save_as), {"x": expected})


def test_the_other_byte_order_is_turned_round(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([1 / 3, -2.0], ">f4"))
    found = read_state_dict(tmp_path / "x.npz")
    assert_same(found, {"x": np.array([1 / 3, -2.0], np.float32)})
    assert found["x"].dtype.isnative


@both_pickles
def test_parameters_that_require_gradients_are_read(tmp_path, save):
    save(tmp_path / "w.pth", {"x": torch.nn.Parameter(torch.tensor([1.0, 2.0]))})
    assert_same(read_state_dict(tmp_path / "w.pth"), {"x": np.array([1.0, 2.0], np.float32)})


def test_views_of_one_storage_are_read_as_they_were(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    save_zip(tmp_path / "w.pth", {"t": base.T, "row": base[1]})
    expected = {"t": [[0, 3], [1, 4], [2, 5]], "row": [3, 4, 5]}
    expected = {name: np.array(value, np.float32) for name, value in expected.items()}
    assert_same(read_state_dict(tmp_path / "w.pth"), expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {"model_state_dict": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"model_ema": {}, "state_dict": state},
        lambda state: {"params_ema": state, "iteration": 7},
        lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"backbone.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"module.backbone.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    ],
)
@both_pickles
def test_wrappers_and_prefixes_are_recognised(tmp_path, save, wrap):
    save(tmp_path / "w.pth", wrap(tensors()))
    assert_same(read_state_dict(tmp_path / "w.pth"), VALUES)


def test_prefixes_are_recognised_outside_of_pytorch_s_files(tmp_path):
    prefixed = {f"module.{name}": tensor for name, tensor in tensors().items()}
    for name in ("weights.safetensors", "weights.npz"):
        FORMATS[name](tmp_path / name, prefixed)
        assert_same(read_state_dict(tmp_path / name), VALUES)


@pytest.mark.parametrize("name", ["w.pth.tar", "w.ckpt", "pytorch_model.bin", "w.PTH", "w.Pt"])
def test_pytorch_s_files_have_many_endings(tmp_path, name):
    save_zip(tmp_path / name, tensors())
    assert_same(read_state_dict(str(tmp_path / name)), VALUES)


def test_a_prefix_of_some_names_is_part_of_them(tmp_path):
    values = {"backbone.x": VALUES["conv.weight"], "classifier.x": VALUES["bn.running_var"]}
    save_zip(tmp_path / "w.pth", tensors(values))
    assert_same(read_state_dict(tmp_path / "w.pth"), values)


# ------------------------------------------------------------------------------------- writing


def with_torch(path):
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


@pytest.mark.parametrize(
    ("ending", "read"),
    [
        ("pth", with_torch),
        ("safetensors", safetensors.numpy.load_file),
        ("pth", read_state_dict),
        ("safetensors", read_state_dict),
    ],
)
def test_what_is_written_is_read_back_bit_by_bit(tmp_path, ending, read):
    values = VALUES | {
        "nan": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "double": np.array([1 / 3], np.float64),
    }
    path = tmp_path / f"w.{ending}"
    write_state_dict(path, values)
    found = read(path)
    assert_same(found, values)
    assert all(found[name].tobytes() == value.tobytes() for name, value in values.items())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_an_existing_file_is_left_alone(tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match=f"^{path} exists already; choose another file\\.$"):
        write_state_dict(path, VALUES)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_name_that_no_file_can_have_is_not_written(tmp_path, ending):
    with pytest.raises(UserError, match="cannot be written"):
        write_state_dict(tmp_path / f"{'x' * 300}.{ending}", VALUES)


@pytest.mark.parametrize("name", ["w.npz", "w.pt", "w"])
def test_other_endings_are_not_written(tmp_path, name):
    with pytest.raises(UserError, match=r"does not end in any of \.pth, \.safetensors; choose"):
        write_state_dict(tmp_path / name, VALUES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_directory_that_is_missing_is_named(tmp_path, ending):
    path = tmp_path / "nowhere" / f"w.{ending}"
    with pytest.raises(UserError, match=rf"^{path} cannot be written \(.*\); choose another file"):
        write_state_dict(path, VALUES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_no_part_of_a_file_is_left_where_the_disk_is_full(tmp_path, ending, monkeypatch):
    def fail(value, path, *rest):
        pathlib.Path(path).write_bytes(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(UserError, match="No space left on device"):
        write_state_dict(tmp_path / f"w.{ending}", VALUES)
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------- without PyTorch


@pytest.fixture
def without_torch(monkeypatch):
    def hide():
        monkeypatch.setitem(sys.modules, "torch", None)

    return hide


def test_without_pytorch_its_files_are_read_but_not_written(tmp_path, without_torch):
    save_zip(tmp_path / "zip.pth", tensors())
    save_legacy(tmp_path / "legacy.pth", tensors())
    without_torch()
    for name in ("zip.pth", "legacy.pth"):
        assert_same(read_state_dict(tmp_path / name), VALUES)
    with pytest.raises(UserError, match=r"with `pip install torch`\.$"):
        write_state_dict(tmp_path / "new.pth", VALUES)
    assert not (tmp_path / "new.pth").exists()


def test_without_pytorch_other_files_are_read_and_written(tmp_path, without_torch):
    for name in ("weights.safetensors", "weights.npz"):
        FORMATS[name](tmp_path / name, tensors())
    without_torch()
    for name in ("weights.safetensors", "weights.npz"):
        assert_same(read_state_dict(tmp_path / name), VALUES)
    write_state_dict(tmp_path / "new.safetensors", VALUES)
    assert_same(read_state_dict(tmp_path / "new.safetensors"), VALUES)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_new_files_have_the_usual_mode(tmp_path, ending):
    (tmp_path / "usual").touch()
    write_state_dict(tmp_path / f"w{ending}", {"weight": np.ones(3, np.float32)})
    mode = (tmp_path / f"w{ending}").stat().st_mode
    assert mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "other", [{"weight": np.zeros(3, np.float32)}, {}, {"weight": np.ones(3, np.float64)}]
)
def test_what_reads_back_as_something_else_is_not_written(tmp_path, ending, other, monkeypatch):
    write = WRITERS[ending]
    monkeypatch.setitem(
        WRITERS, ending, lambda path, tensors: write(path, other | {"b": np.ones(1)})
    )
    tensors = {"weight": np.ones(3, np.float32), "b": np.ones(1)}
    with pytest.raises(UserError, match="is not written, because 'weight' changed when the file"):
        write_state_dict(tmp_path / f"w{ending}", tensors)
    assert list(tmp_path.iterdir()) == []
