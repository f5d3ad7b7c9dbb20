"""Weights in several files: read whole, by the index or its directory, or refused in a sentence."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from helpers.state_dict_files import VALUES, assert_same, refusal, tensors
from ranet_jax.porting import read_state_dict
from ranet_jax.porting.directories import write_ported
from ranet_jax.porting.port import port_state_dict

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_index(directory, places, name=INDEX):
    (directory / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def save(directory, values=VALUES):
    """Two files, one with one tensor and one with the rest, as the format's own library writes."""
    first, *others = values
    save_file({first: values[first]}, directory / SHARDS[0])
    save_file({name: values[name] for name in others}, directory / SHARDS[1])
    write_index(directory, {first: SHARDS[0], **dict.fromkeys(others, SHARDS[1])})
    return directory


@pytest.mark.parametrize("name", ["", INDEX])
def test_an_index_or_its_directory_gives_all_tensors(tmp_path, name):
    found = read_state_dict(save(tmp_path) / name)
    assert_same(found, VALUES)
    assert list(found) == list(VALUES)


def test_prefixes_are_those_of_all_files(tmp_path):
    save(tmp_path, {f"module.{name}": value for name, value in VALUES.items()})
    assert_same(read_state_dict(tmp_path), VALUES)


def test_files_of_pytorch_have_an_index_too(tmp_path):
    torch.save(tensors(), tmp_path / "pytorch_model-00001-of-00001.bin")
    places = dict.fromkeys(VALUES, "pytorch_model-00001-of-00001.bin")
    write_index(tmp_path, places, "pytorch_model.bin.index.json")
    assert_same(read_state_dict(tmp_path), VALUES)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: (d / SHARDS[1]).unlink(), f"FILE/{SHARDS[1]}, which {INDEX} names, is missing;"),
        (
            lambda d: (d / INDEX).unlink(),
            "FILE is missing or is not a file; name a file of weights.",
        ),
        (lambda d: (d / INDEX).write_text("{"), f"FILE/{INDEX} is not JSON"),
        (lambda d: (d / INDEX).write_text("[1]"), f"FILE/{INDEX} has no weight_map; name"),
        (lambda d: write_index(d, {}), f"FILE/{INDEX} has no weight_map; name the index"),
        (lambda d: write_index(d, {}, "other.index.json"), f"FILE holds several indices, {INDEX},"),
        (
            lambda d: write_index(d, {"x": SHARDS[0]}),
            f"FILE/{SHARDS[0]} lacks 1 tensors that {INDEX} places there, such as 'x'; download",
        ),
        *(
            (
                lambda d, shard=shard: write_index(d, {"x": shard}),
                f"FILE/{INDEX} places 'x' in {shard!r}, which is not a file in the same directory.",
            )
            for shard in ("../w.safetensors", "/w.safetensors", INDEX, "..", 3, None, "a\nb")
        ),
        (
            lambda d: (d / SHARDS[0]).write_bytes(b"cut"),
            f"FILE/{SHARDS[0]} is damaged or is not a .safetensors file; copy or download it",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, change, sentence):
    change(save(tmp_path))
    assert refusal(tmp_path).startswith(sentence)


@pytest.mark.slow
def test_the_checksum_is_that_of_all_files(tmp_path, resnet18):
    (tmp_path / "weights").mkdir()
    save(tmp_path / "weights", {name: np.array(value) for name, value in resnet18.items()})
    ported = port_state_dict(read_state_dict(tmp_path / "weights"), "resnet18")
    write_ported(tmp_path / "out", ported, tmp_path / "weights")
    content = b"".join((tmp_path / "weights" / name).read_bytes() for name in (INDEX, *SHARDS))
    description = json.loads((tmp_path / "out/port.json").read_text())
    assert description["sha256"] == hashlib.sha256(content).hexdigest()
    assert description["source"] == "weights"
