"""State dicts in files: what each format gives, what is refused and how, what is written."""

import os
import pathlib
import pickle
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict, write_state_dict

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


# ----------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors", "npz"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "FILE is missing"),
        (b"", "FILE is empty; copy or download it again."),
        (np.random.default_rng(0).bytes(5000), "FILE is damaged, or is no {} file"),
        (b"<!DOCTYPE html>\n<html><body>404. Not found.</body></html>", "FILE is damaged, or is"),
        (b"PK\x03\x04 and no more of an archive", "FILE is damaged, or is no {} file"),
        (b"\x80", "FILE is damaged, or is no {} file"),
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
    assert "none of the endings .pth, .pt, .pth.tar, .ckpt, .bin, .safetensors, .npz" in sentence


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
        assert "to execute posix.system;" in refusal(path)
    else:  # whose tensors PyTorch's reader stumbles on first, or on having no magic number
        refusal(path)
    assert not witness.exists()
    if save is not save_plain_pickle:
        torch.load(path, weights_only=False)
        assert witness.exists(), "the file would not have executed anything"


def test_a_program_is_refused(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # of its being old
        module = torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2))
        torch.jit.save(module, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith("FILE is a TorchScript program; save the")


def test_a_dictionary_that_holds_itself_is_refused(tmp_path):
    state = {}
    state["model"] = state
    torch.save(state, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith("FILE holds 'model', which is no tensor; save")


@pytest.mark.parametrize("path", ["x" * 300 + ".pth", "/proc/self/mem.pth/w.pth"])
def test_paths_that_no_file_can_have(path):
    with pytest.raises(UserError, match="name a file of weights"):
        read_state_dict(path)


@both_pickles
def test_a_whole_network_is_refused(tmp_path, save):
    save(tmp_path / "w.pth", torch.nn.Linear(2, 3))
    sentence = refusal(tmp_path / "w.pth")
    assert "to execute torch.nn.modules.linear.Linear; save the network's state_dict()" in sentence


def test_objects_of_numpy_are_refused(tmp_path):
    witness = tmp_path / "ran"
    objects = np.array([Command(f"touch {witness}"), None], object)
    np.savez(tmp_path / "w.npz", allow_pickle=True, x=objects)
    assert "would be to execute code" in refusal(tmp_path / "w.npz")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "FILE holds no state dict; save"),
        ([torch.ones(2)], "FILE holds no state dict; save"),
        (torch.ones(2), "FILE holds no state dict; save"),
        ({"state_dict": {}}, "FILE holds no state dict; save"),
        ({"epoch": 3, "name": "net"}, "FILE holds 'epoch', which is no tensor; save"),
        ({1: torch.ones(2)}, "FILE holds 1, which is no tensor; save"),
        ({"x": torch.ones(2), "y": None}, "FILE holds 'y', which is no tensor; save"),
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
    with warnings.catch_warnings(action="ignore"):  # of formats that are young or old
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
    assert sentence.startswith("FILE holds 'bad', which is no dense tensor of a usual type; save")


@pytest.mark.parametrize(
    "array", [np.array([1j]), np.array(["x"]), np.ones(2, ml_dtypes.bfloat16).view("V2")]
)
def test_arrays_that_are_not_real_numbers(tmp_path, array):
    np.savez(tmp_path / "w.npz", good=np.ones(2), bad=array)
    assert refusal(tmp_path / "w.npz").startswith("FILE holds 'bad', which is no dense tensor")


def test_safetensors_of_types_that_are_not_numpy_s(tmp_path):
    save_safetensors(tmp_path / "c.safetensors", {"bad": torch.ones(2, dtype=torch.complex64)})
    assert refusal(tmp_path / "c.safetensors").startswith("FILE holds 'bad', which is no dense")
    save_safetensors(tmp_path / "f.safetensors", {"x": torch.ones(2).to(torch.float8_e4m3fn)})
    assert "a type that NumPy lacks; save the network in float32" in refusal(
        tmp_path / "f.safetensors"
    )


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
    with pytest.raises(UserError, match=r"ends in none of \.pth, \.safetensors; choose such"):
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


def test_without_pytorch_its_files_say_what_to_install(tmp_path, without_torch):
    for name in ("w.pth", "w.pt"):
        save_zip(tmp_path / name, tensors())
    without_torch()
    for name in ("w.pth", "w.pt"):
        assert "install it with `pip install torch`." in refusal(tmp_path / name)
    with pytest.raises(UserError, match=r"with `pip install torch`\.$"):
        write_state_dict(tmp_path / "new.pth", VALUES)
    assert {entry.name for entry in tmp_path.iterdir()} == {"w.pth", "w.pt"}


def test_without_pytorch_other_files_are_read_and_written(tmp_path, without_torch):
    for name in ("weights.safetensors", "weights.npz"):
        FORMATS[name](tmp_path / name, tensors())
    without_torch()
    for name in ("weights.safetensors", "weights.npz"):
        assert_same(read_state_dict(tmp_path / name), VALUES)
    write_state_dict(tmp_path / "new.safetensors", VALUES)
    assert_same(read_state_dict(tmp_path / "new.safetensors"), VALUES)
