"""Variations drawn in NumPy: the same in both pipelines, on resumption, and with a function."""

import itertools
import textwrap

import numpy as np
import pytest

from helpers.blocks import CLASSES, take
from helpers.images import png
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples
from ranet_jax.pipeline.arrays import ArrayDataset
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.pipeline.training_data import open_training_data
from ranet_jax.pipeline.transforms import blur, rotate, shift_hue
from ranet_jax.pipeline.variation import Variation, check_variation, load_function

pytestmark = pytest.mark.slow

VARIED = {"rotation": 30.0, "hue": 0.2, "blur": 1.5}
FUNCTIONS = """
    import numpy as np

    def darken(image, label, rng):
        return image * np.float32(rng.uniform(0.2, 0.4)), label

    def relabel(image, label, rng):
        return image, np.full_like(label, 77)

    def double(image, label, rng):
        return image.astype(np.float64), label

    def halve(image, label, rng):
        return image[::2], label[::2]

    def forget(image, label, rng):
        return image

    def fall(image, label, rng):
        if image.std() > 0:
            raise RuntimeError("no such image. And more.")
        return image, label

    number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """The module `own_functions` in the working directory."""
    (tmp_path / "own_functions.py").write_text(textwrap.dedent(FUNCTIONS))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pipelines(config):
    """Training batches from a step on, by TensorFlow and from arrays."""
    builder = examples.open_dataset(config.data)
    rng = np.random.default_rng(0)
    encoded = tuple(
        (
            png(rng.integers(0, 256, (44, 66, 3), dtype=np.uint8)),
            png(rng.integers(0, CLASSES, (44, 66), dtype=np.uint8)),
        )
        for _ in range(5)
    )
    names = tuple(map(str, range(CLASSES)))
    metadata = DatasetMetadata("packed", names, ((0, 0, 0),) * CLASSES)
    packed = ArrayDataset(metadata, {"train": encoded})
    return (
        lambda step=0: examples.train_batches(config, builder, step),
        lambda step=0: packed.train_batches(config, step),
    )


def test_nothing_is_varied_by_default(config):
    variation = Variation(config.data)
    assert not variation.before_crop and not variation.after_crop


def test_draws_depend_on_seed_and_number_and_spread_over_the_range(config):
    config.data.update(VARIED)
    variation = Variation(config.data)
    rng = np.random.default_rng(1)
    image = rng.uniform(0, 255, (9, 12, 3)).astype(np.float32)
    label = rng.integers(0, 3, (9, 12), dtype=np.uint8)
    degrees = []
    for number in range(40):
        drawn = np.random.default_rng((5, 2, number)).uniform(-30, 30)
        degrees.append(drawn)
        expected = rotate(image, label, drawn, config.data.mean)
        for found, wanted in zip(variation.rotated(image, label, 5, number), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert min(degrees) < -20 and max(degrees) > 20
    draws = np.random.default_rng((5, 3, 7))
    turns, deviation = 0.2 * draws.uniform(-1, 1), 1.5 * draws.uniform()
    found, same = variation.recoloured(image, label, 5, 7)
    np.testing.assert_allclose(found, blur(shift_hue(image, turns), deviation), rtol=1e-5)
    assert same is label


@pytest.mark.parametrize("kind", [0, 1], ids=["tensorflow", "arrays"])
@pytest.mark.parametrize(
    "field",
    ["rotation", "function", *(pytest.param(f, marks=pytest.mark.long) for f in ("hue", "blur"))],
)
def test_each_changes_batches_and_is_the_same_again_and_after_resuming(
    config, pipelines, field, kind
):
    plain = take(pipelines[kind](), 3)
    config.data[field] = "own_functions:darken" if field == "function" else VARIED[field]
    varied, again, later = (
        list(itertools.islice(pipelines[kind](step), count))
        for step, count in ((0, 3), (0, 3), (2, 1))
    )
    for before, one, other in zip(plain, varied, again, strict=True):
        assert one["image"].dtype == np.float32 and one["label"].dtype == np.uint8
        assert one["image"].shape == before["image"].shape
        assert not np.array_equal(one["image"], before["image"])
        is_same = np.array_equal(one["label"], before["label"])
        assert is_same == (field != "rotation")
        assert set(np.unique(one["label"])) <= {*range(CLASSES), 255}
        for name in ("image", "label"):
            np.testing.assert_array_equal(one[name], other[name])
    for name in ("image", "label"):
        np.testing.assert_array_equal(later[0][name], varied[2][name])


def test_the_corners_of_a_rotation_are_the_mean_colour(config, pipelines):
    config.data.update(rotation=30.0, mean=(100.0, 110.0, 120.0))
    for batches in pipelines:
        batch = next(batches())
        outside = batch["label"] == 255
        assert outside.any()
        np.testing.assert_allclose(batch["image"][outside], 0.0, atol=1e-4)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("own_functions", "is 'own_functions'; name a module and a function in it"),
        ("nowhere.at_all:f", r"cannot be imported \(ModuleNotFoundError: No module named"),
        ("own_functions:missing", r"cannot be imported \(AttributeError: "),
        ("own_functions:number", "is not a function"),
        ("own_functions:double", r"returns float64 \[40, 60, 3\] and uint8 \[40, 60\]; return an"),
        ("own_functions:halve", r"returns float32 \[20, 60, 3\] and uint8 \[20, 60\]"),
        ("own_functions:forget", "returns a ndarray"),
    ],
)
def test_functions_that_are_refused_when_data_are_opened(config, name, sentence):
    config.data.function = name
    with pytest.raises(UserError, match=f"config.data.function .*{sentence}"):
        open_training_data(config)


def test_a_function_that_fails_later_is_named(config, pipelines):
    config.data.function = "own_functions:fall"
    check_variation(config.data)
    for batches in pipelines:
        with pytest.raises(UserError, match=r"fall' fails \(RuntimeError: no such image\)"):
            next(batches())


def test_a_function_whose_labels_are_wrong_is_named(config, pipelines):
    config.data.function = "own_functions:relabel"
    with pytest.raises(UserError, match=r"or config.data.function .*relabel' is at fault. .* 77,"):
        next(pipelines[0]())


def test_the_function_is_that_of_the_module(config):
    image, label = np.ones((2, 2, 3), np.float32), np.zeros((2, 2), np.uint8)
    darker, same = load_function("own_functions:darken")(image, label, np.random.default_rng(0))
    assert 0.2 <= darker.max() <= 0.4 and same is label
