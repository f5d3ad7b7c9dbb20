"""MobileNetV3: sizes, names and counts, and what training changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import random_variables
from ranet_jax.models.backbones.inverted_residual import SqueezeExcitation
from ranet_jax.models.backbones.mobilenet_v3 import MobileNetV3

pytestmark = pytest.mark.slow

WIDTHS = {"stem": 16, "stage1": 16, "stage2": 24, "stage3_first": 40, "stage3": 40, "stage4": 80}
WIDTHS |= {"stage5": 112, "stage6": 160, "head": 960}


@pytest.mark.parametrize(
    "output_stride, sizes",
    [
        (8, ((33, 49), (33, 49), (17, 25), *[(9, 13)] * 6)),
        (16, ((33, 49), (33, 49), (17, 25), (9, 13), (9, 13), *[(5, 7)] * 4)),
        (32, ((33, 49), (33, 49), (17, 25), (9, 13), (9, 13), (5, 7), (5, 7), (3, 4), (3, 4))),
    ],
)
def test_feature_sizes_and_names(output_stride, sizes):
    network = MobileNetV3(output_stride=output_stride, num_classes=5)
    for height, width in ((65, 97), (66, 98)):
        image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
        shapes, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
        assert shapes.pop("logits").shape == (2, 5)
        assert {name: stage.shape for name, stage in shapes.items()} == {
            name: (2, *size, channels)
            for (name, channels), size in zip(WIDTHS.items(), sizes, strict=True)
        }


def test_published_parameter_count_and_names():
    """5,483,032 parameters, the number of torchvision's network of 1,000 classes."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(MobileNetV3(num_classes=1000).init, jax.random.key(0), image)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == 5_483_032
    blocks = {f"block{i}" for i in range(1, 16)}
    assert set(params) == {"stem", "head", "hidden", "classifier"} | blocks
    assert set(params["block1"]) == {"depthwise", "project"}
    assert set(params["block4"]) == {"expand", "depthwise", "excite", "project"}


def test_no_classifier_by_default():
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes, variables = jax.eval_shape(MobileNetV3().init_with_output, jax.random.key(0), image)
    assert "logits" not in shapes
    assert not {"hidden", "classifier"} & set(variables["params"])


@pytest.mark.parametrize("output_stride", [4, 12, 64])
def test_output_stride_that_is_no_choice(output_stride):
    message = rf"output_stride is {output_stride}; choose one of \(8, 16, 32\)"
    with pytest.raises(ValueError, match=message):
        MobileNetV3(output_stride=output_stride)


def test_excitation_by_hand():
    """Two channels have means 1 and 3; fc1 sums them to 4, fc2 gives 4 and -8, hence 1 and 0."""
    inputs = jnp.array([[[[0.0, 2.0], [2.0, 4.0]]]])
    params = {
        "fc1": {"kernel": jnp.ones((1, 1, 2, 1)), "bias": jnp.zeros(1)},
        "fc2": {"kernel": jnp.array([[[[1.0, -2.0]]]]), "bias": jnp.zeros(2)},
    }
    scaled = SqueezeExcitation(1).apply({"params": params}, inputs)
    np.testing.assert_allclose(scaled, [[[[0.0, 0.0], [2.0, 0.0]]]])


@pytest.mark.long
def test_training_moves_every_statistic_slowly_and_drops():
    """A running average keeps 0.99 of its value, as with torchvision's momentum of 0.01."""
    network = MobileNetV3(output_stride=16, num_classes=5)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = random_variables(network, image)

    @jax.jit
    def step(variables, x, key):
        features, updates = network.apply(
            variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return features["logits"], updates["batch_stats"]

    images = np.random.default_rng(3).normal(size=(2, 32, 48, 3)).astype(np.float32)
    logits, stats = step(variables, images, jax.random.key(0))
    others, _ = step(variables, images, jax.random.key(1))
    assert not np.allclose(logits, others)
    before = variables["batch_stats"]
    moved = jax.tree.map(lambda x, y: bool((np.asarray(x) != y).any()), stats, before)
    assert all(jax.tree.leaves(moved))
    kernel, mean = variables["params"]["stem"]["conv"]["kernel"], before["stem"]["bn"]["mean"]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    convolved = sum(
        padded[:, i::2, j::2][:, :16, :24] @ np.asarray(kernel)[i, j]
        for i in range(3)
        for j in range(3)
    )
    expected = 0.99 * np.asarray(mean) + 0.01 * convolved.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(stats["stem"]["bn"]["mean"], expected, rtol=1e-4, atol=1e-6)
