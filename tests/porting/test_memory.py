"""Which tensors of a file are in memory, and what happens if the file changes meanwhile."""

import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from helpers.state_dict_files import FORMATS, assert_same, tensors
from ranet_jax.errors import UserError
from ranet_jax.porting import open_state_dict, read_state_dict
from ranet_jax.porting.stored import as_array

pytestmark = pytest.mark.slow

# 8 tensors of 1 MiB.
MIB = 2**20
LARGE = {f"layer.{n}": np.full(MIB // 4, n + 0.5, np.float32) for n in range(8)}


def save_pickle(path, state):
    path.write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in state.items()}, 4))


SAVERS = {name: FORMATS[name] for name in ("zip.pth", "legacy.pth", "weights.safetensors")} | {
    "weights.npz": FORMATS["weights.npz"],
    "arrays.pkl": save_pickle,
}
every_kind = pytest.mark.parametrize("name", SAVERS)


@every_kind
def test_tensors_are_in_memory_while_they_are_used(tmp_path, name):
    path = tmp_path / name
    SAVERS[name](path, tensors(LARGE))
    read_state_dict(path)  # imports what reading needs
    tracemalloc.start()
    try:
        with open_state_dict(path) as found:
            sums = [float(as_array(tensor).sum(dtype=np.float64)) for tensor in found.values()]
        assert tracemalloc.get_traced_memory()[1] < 2.5 * MIB
    finally:
        tracemalloc.stop()
    assert sums == [(n + 0.5) * MIB / 4 for n in range(8)]


PEAK = """
import resource, sys
from ranet_jax.porting import open_state_dict
from ranet_jax.porting.stored import as_array

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

for path in sys.argv[1:]:
    before = peak()
    with open_state_dict(path, prefix="part.") as found:
        assert [float(as_array(tensor)[0]) for tensor in found.values()] == [0.5]
    print(peak() - before)
"""


def test_tensors_that_are_not_used_take_no_memory(tmp_path):
    """Five files hold 80 MiB besides the network; the system reports the process's memory."""
    values = {"part.x": np.full(1000, 0.5, np.float32), "unused": np.zeros(20 * MIB, np.float32)}
    for name, save in SAVERS.items():
        save(tmp_path / name, tensors(values))
    files = [str(tmp_path / name) for name in SAVERS]
    output = subprocess.run(
        [sys.executable, "-c", PEAK, *files], check=True, capture_output=True, text=True
    ).stdout
    assert len(output.split()) == len(files)
    assert max(map(int, output.split())) < 20 * MIB, dict(zip(SAVERS, output.split(), strict=True))


@every_kind
def test_a_file_that_is_cut_off_while_it_is_read_is_damaged(tmp_path, name):
    """A training that saves to the file again does this; a mapped file would end the process."""
    path = tmp_path / name
    SAVERS[name](path, tensors(LARGE))
    with open_state_dict(path) as found:
        os.truncate(path, MIB // 2)
        with pytest.raises(UserError, match=f"^{path} is damaged or is not a "):
            [as_array(tensor) for tensor in found.values()]


@every_kind
def test_values_of_another_file_are_not_taken_for_those_of_the_first(tmp_path, name):
    path = tmp_path / name
    SAVERS[name](path, tensors(LARGE))
    SAVERS[name](tmp_path / f"new.{name}", tensors({key: -LARGE[key] for key in LARGE}))
    with open_state_dict(path) as found:
        os.replace(tmp_path / f"new.{name}", path)
        if name == "weights.npz":  # the archive stays open
            assert_same({key: as_array(found[key]) for key in found}, LARGE)
            return
        with pytest.raises(UserError, match=f"^{path} is damaged"):
            as_array(found["layer.0"])


@every_kind
def test_what_is_read_does_not_depend_on_the_file(tmp_path, name):
    path = tmp_path / name
    SAVERS[name](path, tensors(LARGE))
    found = read_state_dict(path)
    path.write_bytes(b"")
    assert_same(found, LARGE)


@every_kind
def test_tensors_of_one_storage_are_read_once(tmp_path, name):
    """A file must not take more memory than disk space by naming the same values repeatedly."""
    value = tensors({"x": LARGE["layer.1"]})["x"]
    state = {str(n): value for n in range(20)}
    if name == "weights.safetensors":  # in which each value has one name
        with pytest.raises(RuntimeError, match="share memory"):
            SAVERS[name](tmp_path / name, state)
        return
    SAVERS[name](tmp_path / name, state)
    size = (tmp_path / name).stat().st_size
    tracemalloc.start()
    try:
        found = read_state_dict(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < size + MIB
    finally:
        tracemalloc.stop()
    assert_same(found, dict.fromkeys(state, LARGE["layer.1"]))
