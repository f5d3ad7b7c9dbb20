"""PyTorch files with changed bytes and instructions: each ends in a sentence or in tensors."""

import collections
import io
import pickletools
import sys
import zipfile

import numpy as np
import pytest
import torch

from helpers.pickled_checkpoints import checkpoint, in_little_time, mutants
from helpers.state_dict_files import both_pickles, tensors
from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict
from ranet_jax.porting.pickled_types import Refused
from ranet_jax.porting.pickles import read_pickle
from ranet_jax.porting.stored import Damaged

pytestmark = pytest.mark.slow


def modules():
    """The imported modules, except the codecs of names in archives."""
    return {name for name in sys.modules if not name.startswith("encodings.")}


@pytest.mark.parametrize("protocol", [pytest.param(2, marks=pytest.mark.long), 4])
def test_changed_files_end_in_a_sentence_or_in_tensors(tmp_path, toolbox, protocol):
    """Nothing is imported, nothing runs, and nothing takes long."""
    path = tmp_path / "w.pth"
    torch.save(checkpoint(toolbox), path, pickle_protocol=protocol)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    (name,) = (name for name in entries if name.endswith("data.pkl"))
    outcomes = collections.Counter()
    imported = modules()
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
    assert modules() == imported
    assert min(outcomes["refused"], outcomes["read"]) > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.pth"]


def test_random_instructions_end():
    """Programs of the pickle machine, drawn at random, with short arguments."""
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
