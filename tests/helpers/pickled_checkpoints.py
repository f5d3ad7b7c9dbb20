"""What training scripts pickle, changed pickles, and limits on the time and memory of reading."""

import argparse
import collections
import datetime
import pathlib
import pickletools
import time
import tracemalloc
import types

import numpy as np
import torch

from helpers.state_dict_files import tensors


def checkpoint(make):
    """What MMEngine, Lightning and people's own scripts save beside the weights."""
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


def mutants(content, rng, count):
    """Pickles with bytes changed, removed or repeated, and with instructions inserted."""
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
