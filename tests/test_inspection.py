"""Parameter and feature tables against a network counted by hand."""

import re

import pytest

from helpers import training
from ranet_jax.errors import UserError
from ranet_jax.inspection import inspect_config, parameter_shapes

# ResNet-18 of width 4, its first stage alone, and the plain head of 8 channels for 3 categories.
STEM = {
    "backbone/conv1/kernel": (7, 7, 3, 4),
    "backbone/bn1/scale": (4,),
    "backbone/bn1/bias": (4,),
}
BLOCKS = {
    f"backbone/layer1_block{block}/{name}{number}/{leaf}": shape
    for block in (0, 1)
    for number in (1, 2)
    for name, leaf, shape in (
        ("conv", "kernel", (3, 3, 4, 4)),
        ("bn", "scale", (4,)),
        ("bn", "bias", (4,)),
    )
}
HEAD = {
    f"context/{name}/{leaf}": shape
    for name, width in (("reduce", 4), ("fuse", 8))
    for leaf, shape in (
        ("conv/kernel", (3, 3, width, 8)),
        ("bn/scale", (8,)),
        ("bn/bias", (8,)),
    )
} | {"fine_logit/kernel": (1, 1, 8, 3), "fine_logit/bias": (3,)}
BACKBONE_COUNT = (49 * 3 * 4 + 2 * 4) + 4 * (9 * 4 * 4 + 2 * 4)
HEAD_COUNT = (9 * 4 * 8 + 2 * 8) + (9 * 8 * 8 + 2 * 8) + (8 * 3 + 3)


def test_every_parameter_has_its_shape():
    assert parameter_shapes(training.tiny_config(), 3) == STEM | BLOCKS | HEAD


def test_features_and_counts_by_module():
    lines = inspect_config(training.tiny_config(), 3).text().splitlines()
    sizes = {line.split()[0]: line.split()[1:] for line in lines[: lines.index("")]}
    assert sizes == {
        "input": ["24", "x", "24", "x", "3,", "3", "categories"],
        "stem": ["12", "x", "12", "x", "4"],
        "layer1": ["6", "x", "6", "x", "4"],
        "fine": ["6", "x", "6", "x", "3"],
    }
    rows = [re.fullmatch(r" *([\d,]+)  (.*)", line) for line in lines[lines.index("") + 1 :]]
    counts = {row[2]: int(row[1].replace(",", "")) for row in rows}
    assert counts["backbone/conv1"] == 49 * 3 * 4
    assert counts["context/fuse"] == 9 * 8 * 8 + 2 * 8
    assert counts.pop("parameters in total") == BACKBONE_COUNT + HEAD_COUNT
    assert sum(counts.values()) == BACKBONE_COUNT + HEAD_COUNT


def test_every_parameter_is_listed_on_request():
    text = inspect_config(training.tiny_config(), 3).text(each=True)
    for path, shape in (STEM | BLOCKS | HEAD).items():
        assert f"  {path} {shape}\n" in text


def test_a_network_that_is_none():
    config = training.tiny_config()
    config.model.backbone = "resnet19"
    with pytest.raises(UserError, match="backbone is 'resnet19'"):
        inspect_config(config, 3)


def test_no_categories_make_no_network():
    with pytest.raises(UserError, match="number of categories is 0; choose 1 or more"):
        inspect_config(training.tiny_config(), 0)
