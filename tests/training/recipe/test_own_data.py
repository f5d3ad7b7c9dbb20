"""A config fitted to a data set of twelve images, with a network that trains in no time."""

import re
import time

import jax
import numpy as np
import pytest

from helpers.images import png
from ranet_jax.checkpoints import describe
from ranet_jax.config import set_field
from ranet_jax.config_files import load_config, packaged_config
from ranet_jax.errors import UserError
from ranet_jax.files import write_json
from ranet_jax.pipeline.arrays import write_arrays
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.pipeline.training_data import open_training_data
from ranet_jax.training.recipe.measure import measure_steps
from ranet_jax.training.recipe.own_data import Recipe, _fit_start, fit

pytestmark = pytest.mark.slow

METADATA = DatasetMetadata("mine", ("left", "right", "never"), ((200, 0, 0), (0, 0, 200), (0,) * 3))
TINY = {
    "model.context": "none",
    "model.stages": 1,
    "model.width": 4,
    "model.channels": 8,
}


def example(number, size):
    """The left three quarters are black, the right quarter is white."""
    label = np.zeros(size, np.uint8)
    label[:, 3 * size[1] // 4 :] = 1
    return png(np.repeat(label[..., None] * np.uint8(200 + number), 3, axis=-1)), png(label)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "mine.npz"
    splits = {
        "train": [example(number, (32, 48)) for number in range(8)],
        "val": [example(number, (32, 48)) for number in range(4)],
        "sizes": [example(number, (32 + number, 48)) for number in range(5)],
    }
    write_arrays(path, METADATA, splits)
    return str(path)


def base(**fields):
    config = load_config(str(packaged_config("own_data.py")))
    for name, value in {"data.name": "mine", **TINY, **fields}.items():
        set_field(config, name, value)
    return config


def test_a_config_is_fitted_and_every_choice_is_told(arrays):
    told = []
    start, config = time.monotonic(), base()
    kept = {"model.width", "data.name"}
    fitted = fit(config, kept, 60.0, start, arrays, told.append)
    chosen = fitted.config
    assert config == base()  # the given config is unchanged
    # ENet's weights by hand: shares 3/4, 1/4 and 0, scaled to 1 on average over the pixels.
    weights = np.array([1 / np.log(1.02 + 0.75), 1 / np.log(1.02 + 0.25)])
    weights /= weights @ [0.75, 0.25]
    np.testing.assert_allclose(chosen.loss.class_weights, [*weights, 0.0], atol=0.006)
    assert chosen.data.crop_size == (32, 48)
    assert (chosen.train.batch_size, chosen.model.output_stride) == (8, 8)
    assert chosen.model.width == 4
    assert (chosen.eval.mode, chosen.eval.batch_size) == ("whole", 8)
    train = chosen.train
    assert train.steps >= 20
    assert train.eval_every <= train.steps and train.checkpoint_every <= train.eval_every
    assert chosen.optimizer.warmup_steps == min(500, train.steps // 20)
    assert train.steps == 40_000 or 0.7 * 3600 < fitted.seconds <= 3600
    assert "3 classes, 8 images of 32 x 48 pixels to train on, 4 to score" in told[0]
    named = [line.split(" = ")[0] for line in told if line.startswith("config.")]
    assert named[:2] == ["config.loss.class_weights", "config.data.crop_size"]
    assert "config.train.steps" in named and "config.model.width" not in named
    assert all(line.endswith(".") for line in told)


@pytest.mark.long
def test_images_of_many_sizes_are_scored_through_windows(arrays):
    config = base(**{"data.eval_split": "sizes", "train.steps": 7})
    kept = {"train.steps", "data.eval_split", *TINY}
    chosen = fit(config, kept, 1.0, time.monotonic(), arrays, lambda line: None).config
    assert (chosen.eval.mode, chosen.eval.crop_size) == ("slide", (32, 48))
    assert not chosen.eval.regions
    assert (chosen.train.steps, chosen.data.eval_split) == (7, "sizes")


def test_what_is_refused(arrays, tmp_path):
    def refused(match, **fields):
        with pytest.raises(UserError, match=match):
            fit(base(**fields), set(fields), 1.0, time.monotonic(), arrays, print)

    refused("mine.npz holds data set 'mine', not 'other'", **{"data.name": "other"})
    refused("has no split 'tarin'", **{"data.train_split": "tarin"})
    refused("batch_size 12 is not divisible by 8 devices", **{"train.batch_size": 12})
    refused("init_from is .*, which is not a directory", **{"model.init_from": str(tmp_path / "x")})
    sentence = r"crop_size is \(500, 500\), more than twice .* \(32 x 48\) enlarged by 1.5"
    refused(sentence, **{"data.crop_size": (500, 500)})


def test_a_batch_that_does_not_fit_into_memory_is_halved(arrays):
    config = base(**{"data.crop_size": (32, 48), "train.batch_size": 32})
    data = open_training_data(config, arrays)
    tries = []

    def batches(step):
        tries.append(step)
        if len(tries) < 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")
        return data.train_batches(step)

    pace, fitting = measure_steps(config, data._replace(train_batches=batches), 0.0)
    assert (config.train.batch_size, fitting.train.batch_size) == (32, 8)
    assert 0 < pace.step_seconds < pace.compile_seconds

    def none(step):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")

    with pytest.raises(UserError, match="A crop of 32 x 48 pixels does not fit"):
        measure_steps(config, data._replace(train_batches=none), 0.0)


def test_a_run_to_start_from_gives_its_network_but_for_what_is_kept(tmp_path):
    trained = base(**{"model.context": "fcn", "model.width": 12, "model.output_stride": 16})
    trained.model.align_corners = False
    describe(tmp_path, trained, METADATA)
    told = []
    recipe = Recipe(base(**{"model.init_from": str(tmp_path)}), {"model.width"}, told.append)
    _fit_start(recipe)
    model = recipe.config.model
    assert (model.context, model.width, model.output_stride) == ("fcn", 4, 16)
    assert not model.align_corners
    for classifier in ("fine_logit", "auxiliary/logit"):
        assert re.search(model.init_allow_missing, f"params/{classifier}/kernel")
    assert not re.search(model.init_allow_missing, "params/backbone/conv1/kernel")
    assert f"config.model.context = 'fcn': as in {tmp_path}." in told


def test_ported_weights_give_the_backbone_and_lower_rates(tmp_path):
    write_json(tmp_path / "port.json", {"network": "resnet50", "naming": "timm", "fresh": []})
    recipe = Recipe(base(**{"model.init_from": str(tmp_path)}), set(), lambda line: None)
    _fit_start(recipe)
    assert recipe.config.model.backbone == "resnet50"
    assert recipe.config.optimizer.lr_multipliers == (("backbone", 0.2),)
    assert recipe.config.optimizer.learning_rate == 0.03
