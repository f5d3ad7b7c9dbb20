"""The same global batch on one device, by pmap and by shard_map, and in microbatches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.score_maps import interpolate, softmax
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.training.optimizer import build_optimizer
from ranet_jax.training.parallel import AXIS, count_parts, lower_step, map_step
from ranet_jax.training.step import create_state, init_variables, make_step

pytestmark = pytest.mark.slow

CLASSES = 3
STEPS = 3


def tiny_config(**train):
    config = default_config()
    config.data.crop_size = (32, 40)
    config.model.update(
        backbone="resnet18", width=4, stages=1, channels=8, num_regions=4, per_region=2
    )
    config.optimizer.learning_rate = 0.05
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.9
    config.train.update(steps=10, batch_size=8, **train)
    return config


def batches(count, size=8):
    """Batches whose images have very different numbers of ignored pixels."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        labels = rng.integers(0, CLASSES, (size, 32, 40)).astype(np.uint8)
        for index in range(size):
            labels[index, : 4 * index] = 255
        yield {
            "image": rng.normal(size=(size, 32, 40, 3)).astype(np.float32),
            "label": labels,
        }


def step_and_state(config):
    model = build_model(config, CLASSES, AXIS)
    variables = init_variables(model, jax.random.PRNGKey(0), config.data.crop_size)
    optimizer, _ = build_optimizer(config.optimizer, config.train.steps, variables["params"])
    state = create_state(variables, optimizer, jax.random.PRNGKey(1), ema=True)
    return make_step(model, optimizer, config, 255), state


def run(config, mode, devices, data):
    step, state = step_and_state(config)
    step = map_step(step, mode, devices)
    losses = []
    for batch in data:
        state, metrics = step(state, batch)
        losses.append({name: float(value) for name, value in metrics.items()})
    return losses, jax.device_get(state)


@pytest.fixture(scope="module")
def one_device():
    return run(tiny_config(), "pmap", jax.devices()[:1], batches(STEPS))


@pytest.mark.parametrize(
    "mode, count",
    [("pmap", 8), *(pytest.param("shard_map", n, marks=pytest.mark.long) for n in (1, 8))],
)
def test_devices_change_nothing(one_device, mode, count):
    """RANet with dropout, clipping, EMA and unequal ignored pixels: equal to 1e-5."""
    losses, state = run(tiny_config(), mode, jax.devices()[:count], batches(STEPS))
    for found, expected in zip(losses, one_device[0], strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(one_device[1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_step_resizes_scores_as_the_config_says(align_corners):
    config = tiny_config()
    config.model.update(context="none", dropout=0.0, align_corners=align_corners)
    (batch,) = batches(1)
    losses, _ = run(config, "pmap", jax.devices()[:1], [batch])
    model = build_model(config, CLASSES)
    variables = init_variables(model, jax.random.PRNGKey(0), config.data.crop_size)
    images = jnp.asarray(batch["image"])
    outputs, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
    expected = []
    for scores, label in zip(np.asarray(outputs.fine, np.float64), batch["label"], strict=True):
        resized = softmax(interpolate(scores, label.shape, align_corners))
        labelled = label != 255
        right = np.take_along_axis(resized, np.where(labelled, label, 0)[..., None], -1)[..., 0]
        expected.append(-np.log(right)[labelled])
    np.testing.assert_allclose(losses[0]["fine"], np.concatenate(expected).mean(), rtol=1e-5)


def test_training_moves_every_parameter(one_device):
    config = tiny_config()
    start = init_variables(
        build_model(config, CLASSES, AXIS), jax.random.PRNGKey(0), config.data.crop_size
    )
    unmoved = [
        jax.tree_util.keystr(path)
        for (path, before), after in zip(
            jax.tree_util.tree_leaves_with_path(start["params"]),
            jax.tree.leaves(one_device[1].params),
            strict=True,
        )
        if np.array_equal(before, after)
    ]
    assert unmoved == []


@pytest.mark.parametrize(
    "share, microbatches, most, parts",
    [(6, 1, None, 1), (6, 1, 6, 1), (8, 1, 6, 2), (12, 2, 5, 3), (7, 1, 6, 7), (6, 3, 4, 3)],
)
def test_a_device_takes_no_more_crops_at_once_than_it_may(share, microbatches, most, parts):
    train = tiny_config().train
    train.update(microbatches=microbatches, max_device_batch=most)
    assert count_parts(share, train) == parts


@pytest.mark.parametrize(
    "halves", [pytest.param({"microbatches": 2}, marks=pytest.mark.long), {"max_device_batch": 7}]
)
def test_microbatches_of_equal_halves_change_nothing(halves):
    """BatchNorm sees each part alone, so the halves are the same images."""
    config = tiny_config()
    config.model.context, config.model.dropout = "none", 0.0
    data = []
    for batch in batches(2, size=4):
        data.append({name: np.concatenate([x, x]) for name, x in batch.items()})
    whole, expected = run(config, "pmap", jax.devices()[:1], data)
    config.train.update(halves)
    split, state = run(config, "pmap", jax.devices()[:1], data)
    for a, b in zip(whole, split, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(expected.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_exponential_moving_average():
    """With decay 0.9: 0.9 of the start and 0.1 of the parameters after one step."""
    config = tiny_config()
    config.model.context = "none"
    _, state = run(config, "pmap", jax.devices()[:1], batches(1))
    start = init_variables(
        build_model(config, CLASSES, AXIS), jax.random.PRNGKey(0), config.data.crop_size
    )["params"]
    for before, now, average in zip(
        jax.tree.leaves(start),
        jax.tree.leaves(state.params),
        jax.tree.leaves(state.ema_params),
        strict=True,
    ):
        np.testing.assert_allclose(average, 0.9 * before + 0.1 * now, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", ["pmap", pytest.param("shard_map", marks=pytest.mark.long)])
def test_the_whole_state_is_updated_in_place(mode):
    config = tiny_config()
    config.model.context = "none"
    step, state = step_and_state(config)
    shapes = {
        "image": jax.ShapeDtypeStruct((8, 32, 40, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((8, 32, 40), jnp.uint8),
    }
    lowered = lower_step(step, mode, jax.devices()[:2], state, shapes)
    planned = lowered.compile().memory_analysis()
    assert planned.alias_size_in_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    state, _ = map_step(step, mode, jax.devices()[:2])(state, next(batches(1)))
    before = jax.tree.leaves(state)
    map_step(step, mode, jax.devices()[:2])(state, next(batches(1)))
    assert all(leaf.is_deleted() for leaf in before)


def test_a_copy_on_the_host_outlives_the_steps_after_it():
    """`checkpoints.save` hands such a copy to the thread that writes while training goes on."""
    config = tiny_config()
    config.model.context = "none"
    step, state = step_and_state(config)
    step = map_step(step, "pmap", jax.devices()[:2])
    state, _ = step(state, next(batches(1)))
    copy = jax.device_get(state)
    values = [np.array(leaf) for leaf in jax.tree.leaves(copy)]
    for batch in batches(2):
        state, _ = step(state, batch)
    assert int(state.step) == 3
    for kept, value in zip(jax.tree.leaves(copy), values, strict=True):
        np.testing.assert_array_equal(kept, value)


def test_errors():
    with pytest.raises(UserError, match="'pjit'; choose one of"):
        map_step(lambda state, batch: (state, {}), "pjit")
    step = map_step(lambda state, batch: (state, {"x": jnp.float32(0)}), "pmap")
    with pytest.raises(UserError, match="batch of 6"):
        step(jnp.float32(0), {"image": np.zeros((6, 2), np.float32)})
