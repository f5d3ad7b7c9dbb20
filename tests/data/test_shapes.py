"""Scenes of `shapes`: the pixels show what the labels promise."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ranet_data.shapes import scenes, shapes_dataset_builder
from ranet_jax.config import default_config
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline import preparation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn() -> list[scenes.Scene]:
    return [scenes.draw_scene(np.random.default_rng((7, index))) for index in range(40)]


def test_scene_is_a_function_of_its_seed():
    first, again, other = (scenes.render_scene(np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()
    assert first[0].shape == (scenes.SIZE, scenes.SIZE, 3) and first[0].dtype == np.uint8
    assert first[1].shape == (scenes.SIZE, scenes.SIZE) and first[1].dtype == np.uint8


def test_category_is_family_and_kind_of_the_visible_object(drawn):
    for scene in drawn:
        for index, (family, kind) in enumerate(zip(scene.families, scene.kinds, strict=True)):
            name = f"{scenes.FAMILIES[family]}_{scenes.KINDS[kind]}"
            labels = scene.label[scene.owner == index]
            assert {scenes.CLASS_NAMES[label] for label in labels} == {name}
        assert not scene.label[scene.owner == -1].any()


def test_every_class_occurs_and_families_and_kinds_are_balanced(drawn):
    counts = np.bincount(np.concatenate([scene.label.ravel() for scene in drawn]), minlength=7)
    assert len(counts) == len(scenes.CLASS_NAMES) == len(scenes.PALETTE) == 7
    assert (counts > 0.03 * counts.sum()).all()


def test_one_object_of_each_family_has_marks_of_its_kind(drawn):
    """A mark and a ring of pixels around it lie in one region, which the mark describes."""
    side = scenes.MARK_RADIUS + 1
    for scene in drawn:
        shown = {index: set() for index in range(len(scene.kinds))}
        for row, column, kind in scene.marks:
            around = scene.owner[row - side : row + side + 1, column - side : column + side + 1]
            assert around.shape == (2 * side + 1, 2 * side + 1)
            assert (around == around[0, 0]).all()
            if around[0, 0] >= 0:
                shown[int(around[0, 0])].add(kind)
        for index, kind in enumerate(scene.kinds):
            assert shown[index] <= {kind}
        marked = sorted(scene.families[index] for index, kinds in shown.items() if kinds)
        assert marked == sorted(set(scene.families))


def test_objects_of_one_family_are_of_one_kind(drawn):
    for scene in drawn:
        pairs = set(zip(scene.families, scene.kinds, strict=True))
        assert len(pairs) == len(set(scene.families))


def test_marks_on_the_ground_are_of_both_kinds(drawn):
    kinds = [k for scene in drawn for y, x, k in scene.marks if scene.owner[y, x] == -1]
    assert 0.3 < np.mean(kinds) < 0.7


def test_marks_are_painted_brighter_or_darker(drawn):
    for scene in drawn:
        grey = scene.image.mean(axis=-1)
        for row, column, kind in scene.marks:
            side = scenes.MARK_RADIUS
            window = grey[row - side : row + side + 1, column - side : column + side + 1]
            # A ring leaves its centre as it was, and a cross the middles of its edges.
            rest, mark = window[side, side], window[side, 1]
            if kind == 1:
                rest, mark = window[side, 0], window[side, side]
            assert (mark > rest) == (kind == 0)


def test_neighbours_differ_in_family(drawn):
    """No two pixels within 3 of each other show two objects of one family."""
    for scene in drawn:
        for dy in range(4):
            for dx in range(-3, 4):
                if dy == 0 and dx <= 0:
                    continue
                here = scene.owner[: scenes.SIZE - dy, max(0, -dx) : scenes.SIZE - max(0, dx)]
                there = scene.owner[dy:, max(0, dx) : scenes.SIZE - max(0, -dx)]
                touching = (here >= 0) & (there >= 0) & (here != there)
                families = np.array(scene.families)
                assert (families[here[touching]] != families[there[touching]]).all()


def test_visible_part_of_every_object_is_large_and_in_one_piece(drawn):
    for scene in drawn[:10]:
        for index in range(len(scene.kinds)):
            todo = {tuple(pixel) for pixel in np.argwhere(scene.owner == index)}
            assert len(todo) >= scenes.MIN_VISIBLE
            stack = [todo.pop()]
            while stack:
                y, x = stack.pop()
                near = todo & {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)}
                todo -= near
                stack += near
            assert not todo


def test_texture_does_not_tell_the_kind():
    """Painting one layout with the kinds swapped changes only pixels at marks."""
    scene = scenes.draw_scene(np.random.default_rng(1))
    swapped = tuple((row, column, 1 - kind) for row, column, kind in scene.marks)
    images = [
        scenes._paint(scene.owner, scene.families, marks, np.random.default_rng(2))
        for marks in (scene.marks, swapped)
    ]
    changed = (images[0] != images[1]).any(axis=-1)
    assert changed.any()
    for row, column, _ in scene.marks:
        radius = scenes.MARK_RADIUS
        changed[row - radius : row + radius + 1, column - radius : column + radius + 1] = False
    assert not changed.any()


def test_prepared_splits_are_the_drawn_scenes(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes_dataset_builder, "SPLIT_SIZES", {"train": 3, "val": 2})
    metadata = preparation.prepare("shapes", None, tmp_path)
    assert metadata.class_names == scenes.CLASS_NAMES
    assert metadata.palette == scenes.PALETTE
    builder = tfds.builder_from_directory(tmp_path / "shapes" / "1.0.0")
    for number, (split, size) in enumerate((("train", 3), ("val", 2))):
        examples = {e["name"].decode(): e for e in tfds.as_numpy(builder.as_dataset(split=split))}
        assert sorted(examples) == [f"{split}_{index:04d}" for index in range(size)]
        for index in range(size):
            image, label = scenes.render_scene(np.random.default_rng((0, number, index)))
            example = examples[f"{split}_{index:04d}"]
            np.testing.assert_array_equal(example["image"], image)
            np.testing.assert_array_equal(example["label"][..., 0], label)


def test_config_of_the_demo_names_a_known_data_set():
    assert default_config().data.name in data_input.known_datasets()
