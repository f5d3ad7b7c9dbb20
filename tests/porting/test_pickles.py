"""Pickles as training scripts write them, and as nobody should: read as data or refused."""

import collections
import io
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch

from helpers.pickled_checkpoints import checkpoint, in_little_time_and_memory
from helpers.state_dict_files import VALUES, assert_same, refusal, tensors
from ranet_jax.porting import read_state_dict
from ranet_jax.porting.pickles import read_pickle
from ranet_jax.porting.stored import Array

# ---------------------------------------------------------------------- what people's files hold


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_every_protocol_are_read(tmp_path, toolbox, zipped, protocol):
    path = tmp_path / "w.pth"
    torch.save(
        checkpoint(toolbox),
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    fake = [name for name in sys.modules if name.split(".")[0] == "mmengine"]
    assert fake
    for name in fake:
        del sys.modules[name]
    assert_same(read_state_dict(path), VALUES)
    assert not [name for name in sys.modules if name.split(".")[0] == "mmengine"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_are_read(tmp_path, protocol):
    """A plain pickle of arrays, as the model zoos of Detectron have them."""
    values = VALUES | {"turned": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    values |= {"none": np.zeros((0, 3), np.float16), "swapped": np.array([1, -2], ">i4")}
    content = pickle.dumps({"model": values, "__author__": "me"}, protocol)
    (tmp_path / "w.pkl").write_bytes(content)
    native = {k: v.astype(v.dtype.newbyteorder("=")) for k, v in values.items()}
    assert_same(read_state_dict(tmp_path / "w.pkl"), native)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_what_pickle_makes_of_them(protocol):
    value = [
        None,
        True,
        False,
        0,
        -1,
        2**31,
        2**63,
        -(2**100),
        1.5,
        float("inf"),
        "é\n\\",
        b"\0\xff",
    ]
    value += [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {"a": [1], 2: {}}, [[]]]
    value.append(value[0])
    found = read_pickle(io.BytesIO(pickle.dumps(value, protocol)))
    assert found == value
    assert list(map(type, found)) == list(map(type, value))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [np.float32(0.1), np.int64(-7), np.bool_(True), np.uint8(200)])
def test_scalars_of_numpy_keep_their_bits(protocol, value):
    found = read_pickle(io.BytesIO(pickle.dumps(value, protocol)))
    assert isinstance(found, Array)
    assert (found.dtype, found.shape) == (value.dtype, ())
    assert found.read().tobytes() == value.tobytes()


def test_a_list_that_holds_itself_is_read():
    value = []
    value.append(value)
    found = read_pickle(io.BytesIO(pickle.dumps(value)))
    assert found[0] is found


def test_a_parameter_with_attributes_is_its_tensor(tmp_path):
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    parameter.note = "an attribute"
    torch.save({"x": parameter, "y": torch.ones(2, dtype=torch.uint16)}, tmp_path / "w.pth")
    expected = {"x": np.array([1, 2], np.float32), "y": np.ones(2, np.uint16)}
    assert_same(read_state_dict(tmp_path / "w.pth"), expected)


# ----------------------------------------------------------------------------- what is refused


def archive(path, content, storage=b"", order="little"):
    """A file in the form of torch.save, with a pickle that it would not write."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/byteorder", order)
        file.writestr("archive/data/0", storage)


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


class Command:
    """Executes a command when it is unpickled, through other instructions than `Call`."""

    def __init__(self, command):
        self.command = command


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (eval, "builtins.eval"),
        (getattr, "builtins.getattr"),
        (np.load, "numpy.load"),
        (torch.load, "torch.serialization.load"),
        (collections.namedtuple, "collections.namedtuple"),
    ],
)
def test_what_is_not_on_the_list_is_refused_by_name(tmp_path, protocol, function, name):
    witness = tmp_path / "ran"
    argument = f"__import__('os').system('touch {witness}')"
    value = {"x": np.ones(2), "y": Call(function, argument)}
    archive(tmp_path / "w.pth", pickle.dumps(value, protocol))
    sentence = refusal(tmp_path / "w.pth")
    assert sentence.startswith(f"FILE is refused, because loading it would execute {name};")
    assert {path.name for path in tmp_path.iterdir()} == {"w.pth"}


# The instructions that make objects, each with os.system.
INSTRUCTIONS = {
    "reduce": b"cposix\nsystem\n(S'true'\ntR.",
    "stack_global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "inst": b"(S'true'\niposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nS'true'\no.",
    "newobj": b"\x80\x02cposix\nsystem\nS'true'\n\x85\x81.",
    "newobj_ex": b"\x80\x04cposix\nsystem\nS'true'\n\x85}\x92.",
    "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.",
    "getattr": b"\x80\x02c__builtin__\ngetattr\nccollections\nOrderedDict\nX\x03\0\0\0pop\x86R.",
    "getattr of text": b"\x80\x02c__builtin__\ngetattr\nX\x01\0\0\0aX\x03\0\0\0low\x86R.",
    "reconstructor": b"ccopy_reg\n_reconstructor\n(cposix\nsystem\nc__builtin__\nobject\nNtR.",
}


@pytest.mark.parametrize("content", INSTRUCTIONS.values(), ids=INSTRUCTIONS)
def test_every_way_to_name_a_function_is_closed(tmp_path, content):
    archive(tmp_path / "w.pth", content)
    assert "FILE is refused, because loading it would execute " in refusal(tmp_path / "w.pth")


# Each is found damaged at once, in little memory; pickle takes gigabytes or forever on some.
HOSTILE = {
    "a register of the extension table": b"\x82\x01.",
    "a buffer from outside": b"\x97.",
    "a value out of the memo": b"h\x07.",
    "a memo of four thousand million places": b"Nr\xff\xff\xff\xff0h\x01.",
    "a text of an exabyte": b"\x8d" + struct.pack("<Q", 2**60) + b"x.",
    "bytes of two gigabytes": b"B" + struct.pack("<I", 2**31 - 1) + b"x.",
    "a whole number of two gigabytes": b"\x8b" + struct.pack("<I", 2**31 - 1) + b"x.",
    "a number of ten thousand digits": b"L" + b"9" * 10_000 + b"L\n.",
    "nothing to take": b"0.",
    "a mark as a value": b"(.",
    "no mark": b"Nt.",
    "no end": b"N",
    "an object of no name": b"N)R.",
    "a dictionary of one": b"}(Nu.",
    "a list as a key": b"}](]Nu.",
    "items of no dictionary": b"N(NNu.",
    "elements of no list": b"NNa.",
    "a state of nothing": b"NNb.",
    "a dtype of no size": b"cnumpy\ndtype\n(S'f3'\ntRcnumpy.core.multiarray\nscalar\n",
    "an identifier of no storage": b"NQ.",
    # t = (t, t), fifty times: hashing it takes 2^50 steps.
    "a key that takes for ever": b"}(N" + b"2\x86" * 50 + b"Nu.",
    # One list of a thousand elements is copied ten thousand times.
    "a list copied again and again": (
        b"cbuiltins\nlist\nq\x00]("
        + b"N" * 1000
        + b"e\x85q\x01]("
        + b"h\x00h\x01R" * 10_000
        + b"e."
    ),
    "a tuple copied again and again": (
        b"cbuiltins\nlist\nq\x00(" + b"N" * 1000 + b"t\x85q\x01](" + b"h\x00h\x01R" * 10_000 + b"e."
    ),
    "many arguments again and again": (
        b"cargparse\nNamespace\nq\x00("
        + b"N" * 1000
        + b"tq\x01]("
        + b"h\x00h\x01R" * 10_000
        + b"e."
    ),
    "a tuple of numbers with one hash": b"}(\x8a\x09" + b"\xff" * 7 + b"\x7f\0N\x86Nu.",
    "a key compared again and again": (
        b"}X" + struct.pack("<I", 5000) + b"k" * 5000 + b"q\0N" + b"s" + b"h\0Ns" * 1000 + b"."
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_no_program_writes_is_damaged(tmp_path, content):
    archive(tmp_path / "w.pth", content)
    sentence = in_little_time_and_memory(lambda: refusal(tmp_path / "w.pth"), len(content))
    assert sentence.startswith("FILE is damaged or is not a .pth file")


def test_deep_nesting_ends_in_a_sentence(tmp_path):
    archive(tmp_path / "w.pth", b"]" * 20_000 + b"a" * 19_999 + b".")
    assert refusal(tmp_path / "w.pth").startswith("FILE holds no state dict")


def with_tensor(
    path, storage=None, offset=0, shape=(2,), strides=(1,), key="0", count=2, order="little"
):
    """A file of one float32 tensor, with a view of its storage that PyTorch would not make."""
    identifier = ("storage", torch.FloatStorage, key, "cpu", count)
    rebuild = torch._utils._rebuild_tensor_v2
    storage_object = object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return identifier if value is storage_object else None

    buffer = io.BytesIO()
    arguments = (storage_object, offset, shape, strides, False, collections.OrderedDict())
    Pickler(buffer, 2).dump({"x": Call(rebuild, *arguments)})
    storage = struct.pack("<2f", 1, 2) if storage is None else storage
    archive(path, buffer.getvalue(), storage, order)


def test_a_tensor_written_by_hand_is_read(tmp_path):
    with_tensor(tmp_path / "w.pth")
    assert_same(read_state_dict(tmp_path / "w.pth"), {"x": np.array([1, 2], np.float32)})


def test_a_tensor_of_the_other_byte_order_is_read(tmp_path):
    with_tensor(tmp_path / "w.pth", struct.pack(">2f", 1, -2.5), order="big")
    assert_same(read_state_dict(tmp_path / "w.pth"), {"x": np.array([1, -2.5], np.float32)})


@pytest.mark.parametrize(
    "view",
    [
        {"shape": (3,)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"shape": (-2,)},
        {"shape": (2.0,)},
        {"shape": (True,)},
        {"shape": (2, 1)},
        {"shape": (10**9,), "strides": (0,)},
        {"shape": (10**15,)},
        {"shape": (1,) * 70, "strides": (1,) * 70},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"count": 3},
        {"count": -1},
        {"storage": b"short"},
    ],
    ids=str,
)
def test_views_that_reach_beyond_their_storage_are_damaged(tmp_path, view):
    with_tensor(tmp_path / "w.pth", **view)
    sentence = in_little_time_and_memory(lambda: refusal(tmp_path / "w.pth"), 1000)
    assert sentence.startswith("FILE is damaged")


def test_names_that_no_line_can_hold_are_refused(tmp_path):
    torch.save({"a\nb": torch.ones(2)}, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith(r"FILE holds 'a\nb', which is not a valid name")


def test_compressed_archives_are_refused(tmp_path):
    torch.save(tensors(), tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert refusal(tmp_path / "w.pth").startswith("FILE is compressed, which torch.save never")


def test_an_entry_that_claims_to_take_a_gigabyte_is_damaged(tmp_path):
    path = tmp_path / "w.pth"
    with_tensor(path)
    content = path.read_bytes()
    size = content.index(b"PK\1\2") + 20  # the stored size of the first entry, data.pkl
    path.write_bytes(content[:size] + struct.pack("<I", 2**30) + content[size + 4 :])
    sentence = in_little_time_and_memory(lambda: refusal(path), len(content))
    assert sentence.startswith("FILE is damaged")
