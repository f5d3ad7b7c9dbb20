"""Pickles as training scripts write them, and as nobody should: read as data or refused."""

import argparse
import collections
import datetime
import io
import os
import pathlib
import pickle
import pickletools
import struct
import sys
import time
import tracemalloc
import types
import zipfile

import numpy as np
import pytest
import torch

from helpers.state_dict_files import VALUES, assert_same, both_pickles, refusal, tensors
from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict
from ranet_jax.porting.pickled_types import Refused
from ranet_jax.porting.pickles import read_pickle
from ranet_jax.porting.stored import Array, Damaged

# ---------------------------------------------------------------------- what people's files hold


@pytest.fixture
def toolbox(monkeypatch):
    """Classes of toolboxes that need not be installed; the modules are gone when it is left."""

    def make(name, base, **body):
        module, _, attribute = name.rpartition(".")
        kind = type(attribute, (base,), {"__module__": module, **body})
        parts = module.split(".")
        for last in range(1, len(parts) + 1):
            package = ".".join(parts[:last])
            sys.modules.setdefault(package, types.ModuleType(package))
        setattr(sys.modules[module], attribute, kind)
        return kind

    before = set(sys.modules)
    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def checkpoint(make):
    """What MMEngine, Lightning and scripts of people's own save beside the weights."""
    name = "mmengine.logging.history_buffer.HistoryBuffer"
    smallest = types.FunctionType((lambda self: None).__code__, {})
    smallest.__module__, smallest.__qualname__ = name.rpartition(".")[0], "HistoryBuffer.min"
    buffer = make(name, object, min=smallest)()
    buffer._statistics_methods = collections.OrderedDict(min=smallest)
    buffer._log_history, buffer._max_length = np.array([0.5, 0.25]), 1_000_000
    config = make("mmengine.config.config.ConfigDict", dict)(type="AdamW", lr=np.float64(1e-3))
    config.extra = "an attribute"
    groups = collections.defaultdict(list, a=[1, 2])
    items = {"__getnewargs__": lambda self: tuple(self.items())}
    settings = make("addict.addict.Dict", dict, **items)(seed=0, name="run")
    return {
        "state_dict": collections.OrderedDict(tensors()),
        "args": argparse.Namespace(lr=0.1, size=torch.Size([3, 4]), device=torch.device("cpu")),
        "message_hub": {"log_scalars": collections.OrderedDict(loss=buffer)},
        "config": config,
        "settings": settings,
        "groups": groups,
        "counts": collections.Counter("abca"),
        "recent": collections.deque([1.0, 2.0], maxlen=5),
        "rng": ("MT19937", np.arange(5, dtype=np.uint32), {1, 2}, frozenset("x")),
        "best": [np.float32(0.5), np.int64(3), np.bool_(True), np.ones((2, 3), order="F")],
        "objects": np.array([None, "x"], object),
        "saved": [datetime.datetime(2026, 1, 2), pathlib.PurePosixPath("runs/1")],
        "numbers": (2**70, -1, 1.5, 1j, True, b"bytes", bytearray(b"array"), range(3), slice(1)),
        "dtype": torch.float32,
    }


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
    """A file as torch.save writes it, of a pickle that it would not write."""
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
    """Executes a command when it is unpickled, by other instructions than `Call` does."""

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
    assert sentence.startswith(f"FILE is refused: to load it would be to execute {name};")
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
    assert "FILE is refused: to load it would be to execute " in refusal(tmp_path / "w.pth")


# Each is damaged, at once and in little memory; pickle itself takes gigabytes or for ever on some.
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
    # t = (t, t), fifty times: to hash it takes 2^50 steps.
    "a key that takes for ever": b"}(N" + b"2\x86" * 50 + b"Nu.",
    # One list of a thousand elements is copied ten thousand times.
    "a list copied again and again": (
        b"cbuiltins\nlist\nq\x00]("
        + b"N" * 1000
        + b"e\x85q\x01]("
        + b"h\x00h\x01R" * 10_000
        + b"e."
    ),
    "a key compared again and again": (
        b"}X" + struct.pack("<I", 5000) + b"k" * 5000 + b"q\0N" + b"s" + b"h\0Ns" * 1000 + b"."
    ),
}


def in_little_time(read):
    start = time.perf_counter()
    try:
        return read()
    finally:
        assert time.perf_counter() - start < 2


def in_little_time_and_memory(read, size):
    tracemalloc.start()
    try:
        return in_little_time(read)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100 * size + 2**20


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_no_program_writes_is_damaged(tmp_path, content):
    archive(tmp_path / "w.pth", content)
    sentence = in_little_time_and_memory(lambda: refusal(tmp_path / "w.pth"), len(content))
    assert sentence.startswith("FILE is damaged, or is no .pth file")


def test_deep_nesting_ends_in_a_sentence(tmp_path):
    archive(tmp_path / "w.pth", b"]" * 20_000 + b"a" * 19_999 + b".")
    assert refusal(tmp_path / "w.pth").startswith("FILE holds no state dict")


def with_tensor(
    path, storage=None, offset=0, shape=(2,), strides=(1,), key="0", count=2, order="little"
):
    """A file of one tensor of float32 with a view of its storage that PyTorch would not make."""
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
    assert refusal(tmp_path / "w.pth").startswith(r"FILE holds 'a\nb', which is no name; rename")


def test_compressed_archives_are_refused(tmp_path):
    torch.save(tensors(), tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert refusal(tmp_path / "w.pth").startswith("FILE is compressed, as torch.save leaves no")


# --------------------------------------------------------------------------- files that are changed


def mutants(content, rng, count):
    """Pickles with bytes changed, removed, repeated, and instructions put in."""
    codes = [ord(opcode.code) for opcode in pickletools.opcodes]
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(rng.integers(1, 3)):
            place = int(rng.integers(len(changed)))
            match rng.integers(4):
                case 0:
                    changed[place] = rng.integers(256)
                case 1:
                    del changed[place : place + int(rng.integers(1, 9))]
                case 2:
                    changed[place:place] = changed[place : place + int(rng.integers(1, 30))]
                case _:
                    changed.insert(place, codes[rng.integers(len(codes))])
        yield bytes(changed)


@pytest.mark.parametrize("protocol", [2, 4])
def test_changed_files_end_in_a_sentence_or_in_tensors(tmp_path, toolbox, protocol):
    """Nothing is imported, nothing runs, and nothing takes long."""
    path = tmp_path / "w.pth"
    torch.save(checkpoint(toolbox), path, pickle_protocol=protocol)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    (name,) = (name for name in entries if name.endswith("data.pkl"))
    outcomes = collections.Counter()
    imported = set(sys.modules)
    for content in mutants(entries[name], np.random.default_rng(protocol), 200):
        with zipfile.ZipFile(path, "w") as file:
            for entry, value in (entries | {name: content}).items():
                file.writestr(entry, value)
        try:
            found = in_little_time(lambda: read_state_dict(path))
        except UserError as error:
            outcomes["refused"] += 1
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
        else:
            outcomes["read"] += 1
            assert all(isinstance(value, np.ndarray) for value in found.values())
    assert set(sys.modules) == imported
    assert min(outcomes["refused"], outcomes["read"]) > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.pth"]


def test_random_instructions_end():
    """Programs of the machine drawn at random, with short arguments."""
    rng = np.random.default_rng(0)
    codes = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
    pieces = [*codes, *codes, b"K\x01", b"h\0", b"q\0", b"cbuiltins\nlist\n", b"X\1\0\0\0a"]
    ends = collections.Counter()
    for _ in range(3000):
        program = b"".join(pieces[i] for i in rng.integers(len(pieces), size=30)) + b"."
        try:
            read_pickle(io.BytesIO(program))
            ends["value"] += 1
        except (Damaged, Refused):
            ends["refused"] += 1
    assert ends["refused"] > 1000


@both_pickles
def test_changed_bytes_of_whole_files_end(tmp_path, save):
    path, rng = tmp_path / "w.pth", np.random.default_rng(0)
    save(path, tensors())
    whole = path.read_bytes()
    refused = 0
    for content in mutants(whole, rng, 200):
        path.write_bytes(content)
        try:
            in_little_time(lambda: read_state_dict(path))
        except UserError as error:
            refused += 1
            assert str(error).startswith(str(path))
    assert refused > 50
