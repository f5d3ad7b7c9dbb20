"""Reads randomly changed files, and watches what reading does and how much memory it takes.

PYTHONPATH=tests python -m helpers.mutated_files COUNT [KIND ...]

changes a file of each kind COUNT times.
"""

import codecs
import collections
import json
import os
import pathlib
import pickle
import random
import sys
import tempfile
import tracemalloc

import numpy as np

from helpers import mutations
from helpers.state_dict_files import save_legacy, save_npz, save_safetensors, save_zip, tensors
from ranet_jax.display.progress import track
from ranet_jax.errors import UserError
from ranet_jax.porting import read_state_dict


class Command:
    """Executes a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def save_plain(path, state):
    arrays = {
        key: {name: tensor.numpy() for name, tensor in value.items()} if key == "model" else value
        for key, value in state.items()
    }
    path.write_bytes(pickle.dumps(arrays, 4))


def save_compressed(path, state):
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in state.items()})


def save_index(path, state):
    first, *others = state
    save_safetensors(path.parent / "a.safetensors", {first: state[first]})
    save_safetensors(path.parent / "b.safetensors", {name: state[name] for name in others})
    places = {first: "a.safetensors", **dict.fromkeys(others, "b.safetensors")}
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


# How each file is written, and the functions that change it.
KINDS = {
    "zip.pth": (
        save_zip,
        [
            mutations.change_bytes,
            mutations.change_zip_headers,
            mutations.change_entry(mutations.change_pickle, "data.pkl"),
            mutations.change_entry(mutations.change_bytes, ""),
        ],
    ),
    "legacy.pth": (save_legacy, [mutations.change_bytes, mutations.change_pickles]),
    "arrays.pkl": (save_plain, [mutations.change_bytes, mutations.change_pickle]),
    "w.safetensors": (save_safetensors, [mutations.change_bytes, mutations.change_header]),
    "plain.npz": (
        save_npz,
        [
            mutations.change_bytes,
            mutations.change_zip_headers,
            mutations.change_entry(mutations.change_bytes, ".npy"),
        ],
    ),
    "packed.npz": (save_compressed, [mutations.change_bytes, mutations.change_zip_headers]),
    "m.index.json": (save_index, [mutations.change_bytes, mutations.change_json]),
}
PICKLES = ("zip.pth", "legacy.pth", "arrays.pkl")


# Type checkers, which execute functions that they make from type annotations.
CHECKERS = {"beartype", "jaxtyping"}


class Watch:
    """Notes what the interpreter is asked to execute, import or open while `on` is true."""

    def __init__(self, directory):
        self.directory, self.noted, self.on = str(directory), [], False
        codecs.lookup("cp437")  # the encoding of names in archives
        sys.addaudithook(self.note)  # the hook stays, switched off, until the process ends

    def note(self, event, arguments):
        if not self.on:
            return
        if event == "exec" and CHECKERS & set(sys._getframe(1).f_code.co_filename.split(os.sep)):
            return
        if event == "open" and str(arguments[0]).startswith(self.directory):
            return
        if event in ("import", "exec", "open", "subprocess.Popen", "pickle.find_class") or (
            event.startswith(("os.", "ctypes.", "socket.")) and event != "os.listdir"
        ):
            self.noted.append((event, str(arguments)[:200]))


def in_little_memory(path, size):
    """Read a file, in at most twice its size in memory plus 1 MiB that the libraries need."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    try:
        return read_state_dict(path)
    finally:
        taken = tracemalloc.get_traced_memory()[1] - before
        assert taken < 2 * size + 2**20


def check(name, directory, count):
    """Change a file of a kind `count` times; each is read or refused in one sentence.

    Reading must raise no other error, run no code, import nothing, open no other file, and take
    memory in proportion to the file.
    """
    save, changes = KINDS[name]
    path, rng = directory / name, random.Random(name)
    seeds = [tensors()]
    if name in PICKLES:
        seeds = [{"model": tensors(), "epoch": 3}]
        seeds.append({"model": tensors(), "epoch": Command(f"touch {directory}/ran")})
    contents = []
    for state in seeds:
        save(path, state)
        contents.append(path.read_bytes())
    others = sorted(entry.name for entry in directory.iterdir())
    watch = Watch(directory)
    outcomes: collections.Counter[str] = collections.Counter()
    tracemalloc.start()
    try:
        for number in track(range(-len(contents), count), desc=name, unit="file"):
            content = contents[number % len(contents)]
            if number >= 0:  # the first are read unchanged, so that imports are done
                content = rng.choice(changes)(content, rng)
                if rng.randrange(4) == 0:
                    content = mutations.change_bytes(content, rng)
            path.write_bytes(content)
            watch.on = number >= 0
            try:
                found = in_little_memory(path, len(content))
            except UserError as error:
                outcomes["refused"] += 1
                assert str(error).startswith(str(directory)), content
                assert "\n" not in str(error), content
            except Exception as error:
                raise AssertionError(content) from error
            else:
                outcomes["read"] += 1
                assert all(isinstance(value, np.ndarray) for value in found.values())
            finally:
                watch.on = False
            assert not watch.noted, content
    finally:
        tracemalloc.stop()
    assert min(outcomes["refused"], outcomes["read"]) > count / 100
    assert sorted(entry.name for entry in directory.iterdir()) == others
    print(name, dict(outcomes), flush=True)


def main(count, *names):
    for name in names or KINDS:
        with tempfile.TemporaryDirectory() as directory:
            check(name, pathlib.Path(directory), int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
