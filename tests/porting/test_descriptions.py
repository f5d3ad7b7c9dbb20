"""What mmsegmentation's checkpoints say besides their weights."""

import numpy as np
import pytest
import torch

from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import default_color
from ranet_jax.porting import open_weights

NAMES, COLOURS = ("road", "sky"), [[128, 64, 128], [70, 130, 180]]
STATE = {"conv.weight": torch.ones(2, 2, 1, 1)}


def read_description(path):
    with open_weights(path) as weights:
        return weights.description


def said(tmp_path, meta):
    torch.save({"meta": meta, "state_dict": STATE}, tmp_path / "w.pth")
    return read_description(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "meta",
    [
        {"dataset_meta": {"classes": NAMES, "palette": COLOURS}, "cfg": "align_corners=True"},
        {"CLASSES": list(NAMES), "PALETTE": COLOURS, "config": "f(\n    align_corners=True,\n)"},
    ],
    ids=["1.x", "0.x"],
)
def test_classes_colours_and_corners(meta, tmp_path):
    description = said(tmp_path, meta)
    assert "align_corners=True" in description.config
    dataset = description.dataset("streets", 2)
    assert (dataset.name, dataset.class_names) == ("streets", NAMES)
    assert dataset.palette == ((128, 64, 128), (70, 130, 180))


def test_classes_of_another_number_than_the_classifier_s_are_left(tmp_path):
    description = said(tmp_path, {"CLASSES": NAMES, "PALETTE": COLOURS})
    assert description.dataset("streets", 3) is None
    assert description.dataset("streets", None) is None


@pytest.mark.parametrize(
    "palette", [None, COLOURS[:1], [[0, 0, 300], [0, 0, 0]], [[0, 0], [1, 1]], "red", 7]
)
def test_colours_that_are_none_are_replaced(palette, tmp_path):
    dataset = said(tmp_path, {"CLASSES": NAMES, "PALETTE": palette}).dataset("streets", 2)
    assert dataset.class_names == NAMES
    assert dataset.palette == (default_color(0), default_color(1))


@pytest.mark.parametrize("classes", [None, "road", (), (1, 2), ("road", "a\nb"), {"road": 0}])
def test_classes_that_are_none_are_left(classes, tmp_path):
    description = said(tmp_path, {"dataset_meta": {"classes": classes}, "CLASSES": None})
    assert description.dataset("streets", 2) is None


def test_a_config_that_is_no_text_is_left(tmp_path):
    assert said(tmp_path, {"cfg": {"align_corners": True}}).config is None


@pytest.mark.parametrize("meta", [None, 7, [1], {}, {"epoch": 3}])
def test_files_that_say_nothing(meta, tmp_path):
    description = said(tmp_path, meta)
    assert description.config is None
    assert description.dataset("streets", 2) is None


def test_files_of_arrays_alone_say_nothing(tmp_path):
    np.savez(tmp_path / "w.npz", **{"conv.weight": np.ones((2, 2))})
    assert read_description(tmp_path / "w.npz").class_names == ()
    torch.save(STATE, tmp_path / "w.pth")
    assert read_description(tmp_path / "w.pth").class_names == ()


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="is damaged or is not a"):
        read_description(tmp_path / "w.pth")
