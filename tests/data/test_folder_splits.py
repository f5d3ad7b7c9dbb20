"""Splits by folders, by lists and by chance; names of data sets and of files."""

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from helpers.folder_source import make_source
from ranet_data.folder.splits import list_splits
from ranet_jax.cli import main
from ranet_jax.errors import UserError

LISTS = {"train": "a\nstreet/b.jpg\n\n", "val": "c\n"}


def write_pairs(source, names):
    """Files of images and masks that are never read."""
    for kind in ("images", "masks"):
        for name in names:
            path = source / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return source


def write_lists(source, lists):
    (source / "splits").mkdir(exist_ok=True)
    for split, text in lists.items():
        (source / "splits" / f"{split}.txt").write_text(text)


def names_of(splits):
    return {split: [pair.name for pair in pairs] for split, pairs in splits.items()}


# ---------------------------------------------------------------------------------- lists


@pytest.mark.parametrize("test", [{}, {"test": "d.png\n"}])
def test_lists_divide_the_images(tmp_path, test, capsys):
    source = write_pairs(tmp_path, ["a", "street/b", "c", "d", "e"])
    write_lists(source, LISTS | test)
    expected = {"train": ["a", "street/b"], "val": ["c"]} | ({"test": ["d"]} if test else {})
    assert names_of(list_splits(source, None, 0)) == expected
    assert f"{1 if test else 2} images are in none of the lists." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": "a\n"}, r"splits/val\.txt is missing; list"),
        (LISTS | {"val": "x\n"}, r"val\.txt names 'x', which is not an image"),
        (LISTS | {"val": "a\n"}, r"val\.txt names 'a', as does .*train\.txt; name it once"),
        (LISTS | {"val": "c\nc.png\n"}, r"val\.txt names 'c', as does .*val\.txt"),
        (LISTS | {"val": "\n"}, r"val\.txt names no images"),
        (LISTS | {"test": "\n"}, r"test\.txt names no images"),
    ],
)
def test_lists_that_do_not_fit_are_named(tmp_path, lists, message):
    source = write_pairs(tmp_path, ["a", "street/b", "c"])
    write_lists(source, lists)
    with pytest.raises(UserError, match=message):
        list_splits(source, None, 0)


# --------------------------------------------------------------------------------- chance


def test_a_fraction_is_drawn_and_stays_where_it_is(tmp_path):
    names = [f"photo_{number}" for number in range(400)]
    first = names_of(list_splits(write_pairs(tmp_path, names[:300]), 0.1, 0))
    assert first.keys() == {"train", "val"}
    assert sorted(first["train"] + first["val"]) == sorted(names[:300])
    assert 15 < len(first["val"]) < 45  # 30, with a margin of less than three deviations
    assert first == names_of(list_splits(tmp_path, 0.1, 0))

    more = names_of(list_splits(write_pairs(tmp_path, names), 0.1, 0))
    assert all(set(first[split]) <= set(more[split]) for split in first)
    larger = names_of(list_splits(tmp_path, 0.2, 0))
    assert set(more["val"]) < set(larger["val"])
    assert names_of(list_splits(tmp_path, 0.1, 1)) != more


@pytest.mark.parametrize("present", ["splits", "images/train", "images/val", "images/test"])
def test_a_source_is_divided_once(tmp_path, present):
    write_pairs(tmp_path, "abc")
    (tmp_path / present).mkdir()
    with pytest.raises(UserError, match=f"{tmp_path / present} divides the source already"):
        list_splits(tmp_path, 0.5, 0)


def test_a_fraction_that_leaves_a_split_empty_is_told(tmp_path):
    with pytest.raises(UserError, match=r"fraction 0\.001 for val leaves none of the 3 .* val"):
        list_splits(write_pairs(tmp_path, "abc"), 0.001, 0)


# ---------------------------------------------------------------------------------- names


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_match_in_either_form_of_unicode(tmp_path, forms):
    image, mask = (unicodedata.normalize(form, "Fußgänger é") for form in forms)
    for split in ("train", "val"):
        for kind, name in (("images", image), ("masks", mask)):
            path = tmp_path / kind / split / f"{name}.png"
            path.parent.mkdir(parents=True)
            path.touch()
    assert names_of(list_splits(tmp_path, None, 0))["train"] == ["Fußgänger é"]


def undivided(tmp_path):
    """Six images and masks without splits."""
    sizes = {f"train/{name}.png": (8, 10) for name in "abcdef"}
    source = make_source(tmp_path / "source", sizes=sizes)
    for kind in ("images", "masks"):
        for path in (source / kind / "train").iterdir():
            shutil.move(path, source / kind)
        (source / kind / "train").rmdir()
    return source


def prepare(source, *options):
    data_dir = source.parent / "tfds"
    arguments = ["--source", str(source), "--data-dir", str(data_dir), *options]
    return main(["prepare", "folder", *arguments])


def test_data_sets_of_several_names_live_in_one_directory(tmp_path, capsys):
    source = undivided(tmp_path)
    assert prepare(source, "--name", "facades", "--val-fraction", "0.4", "--seed", "3") == 0
    write_lists(source, {"train": "a\nb\nc\n", "val": "d\n", "test": "e\n"})
    (source / "classes.json").write_text(json.dumps(["x", "y", "z"]))
    assert prepare(source, "--name", "streets") == 0
    shown = capsys.readouterr().out
    assert "facades: 3 classes (ground, road, sky)." in shown
    assert "streets: 3 classes (x, y, z)." in shown
    assert sorted(path.name for path in (tmp_path / "tfds").iterdir()) == ["facades", "streets"]
    sizes = {}
    for name in ("facades", "streets"):
        builder = tfds.builder_from_directory(tmp_path / "tfds" / name / "1.0.0")
        assert builder.name == name
        sizes[name] = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes["streets"] == {"train": 3, "val": 1, "test": 1}
    assert sum(sizes["facades"].values()) == 6

    config = ["--config", "configs/camvid_cpu.py", "--workdir", str(tmp_path / "run")]
    config += ["--config.data.name=nowhere", f"--config.data.data_dir={tmp_path / 'tfds'}"]
    assert main(["train", *config]) == 1
    assert "prepare folder --source DIR --name nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["folder", "--name", "camvid"], "'camvid' is the name of another data set"),
        (["folder", "--name", "my data"], "'my data' cannot be the name of a data set"),
        (["folder", "--name", "../data"], "cannot be the name of a data set"),
        (
            ["folder", "--val-fraction", "1"],
            "The fraction for val is 1.0; choose one between 0 and 1",
        ),
        (["folder", "--val-fraction", "nan"], "The fraction for val is nan; choose one between"),
        (["camvid", "--name", "mine"], "'camvid' has a fixed name and fixed splits"),
        (["shapes", "--val-fraction", "0.1"], "'shapes' has a fixed name and fixed splits"),
    ],
)
def test_options_without_sense_are_refused(tmp_path, arguments, message, capsys):
    source = undivided(tmp_path)
    places = ["--source", str(source), "--data-dir", str(tmp_path / "tfds")]
    assert main(["prepare", *arguments, *places]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tfds").exists()


def test_names_that_are_no_utf_8_are_told(tmp_path, capsys):
    source = undivided(tmp_path)
    for kind in ("images", "masks"):
        odd = os.fsencode(source / kind) + b"/caf\xe9.png"
        shutil.copy(source / kind / "a.png", odd)
    assert prepare(source, "--val-fraction", "0.5") == 1
    assert r"images/caf\xe9.png is not UTF-8; rename it." in capsys.readouterr().err
    assert not (tmp_path / "tfds").exists()


def test_an_odd_photograph_stops_nothing_but_a_damaged_one_is_named(tmp_path, capsys):
    source = undivided(tmp_path)
    path = source / "images" / "a.png"
    with Image.open(path) as image:
        pixels = np.asarray(image)
    Image.fromarray(pixels).save(path, exif=b"Exif\0\0MMx*\0\0\0\x08")
    path.write_bytes(path.read_bytes()[:-12])
    assert prepare(source, "--val-fraction", "0.5") == 1
    assert f"{path} is cut off or damaged at its end;" in capsys.readouterr().err
    Image.fromarray(pixels).save(path, exif=b"Exif\0\0MMx*\0\0\0\x08")
    assert prepare(source, "--val-fraction", "0.5") == 0
