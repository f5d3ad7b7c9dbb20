"""MobileNetV2 against NumPy convolutions and against properties of dilation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import convolve, normalise, random_variables
from ranet_jax.models.backbones.mobilenet import MobileNetV2

pytestmark = pytest.mark.slow

# Channels of each sequence, and its last block in torchvision's numbering.
WIDTHS = (16, 24, 32, 64, 96, 160, 320)
LAST_BLOCKS = (1, 3, 6, 10, 13, 16, 17)


@functools.cache
def float64_variables():
    """Random variables as NumPy arrays."""
    single = MobileNetV2(num_classes=5)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.tree.map(lambda x: np.asarray(x, np.float64), random_variables(single, image))


def images(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    "output_stride, sizes",
    [
        (8, ((33, 49), (33, 49), (17, 25), *[(9, 13)] * 6)),
        (16, ((33, 49), (33, 49), (17, 25), (9, 13), *[(5, 7)] * 5)),
        (32, ((33, 49), (33, 49), (17, 25), (9, 13), (5, 7), (5, 7), *[(3, 4)] * 3)),
    ],
)
def test_feature_sizes_and_names(output_stride, sizes):
    """Images of 65 x 97 and of 66 x 98 have the same sizes, as their stems have as many pixels."""
    network = MobileNetV2(output_stride=output_stride, num_classes=5)
    names = ("stem", *(f"stage{stage}" for stage in range(1, 8)), "head")
    for height, width in ((65, 97), (66, 98)):
        image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
        shapes, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
        assert set(shapes) == {*names, "logits"}
        for name, size, channels in zip(names, sizes, (32, *WIDTHS, 1280), strict=True):
            assert shapes[name].shape == (2, *size, channels)
        assert shapes["logits"].shape == (2, 5)


def test_no_classifier_by_default():
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes, variables = jax.eval_shape(MobileNetV2().init_with_output, jax.random.key(0), image)
    assert "logits" not in shapes and "classifier" not in variables["params"]


@pytest.mark.parametrize("stages, sequences, size", [(1, 2, 8), (2, 3, 4), (3, 5, 2), (4, 7, 1)])
def test_fewer_stages_end_with_the_last_sequence_of_their_stride(stages, sequences, size):
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    network = MobileNetV2(stages=stages)
    shapes, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    names = [f"stage{stage}" for stage in range(1, sequences + 1)]
    assert shapes[names[-1]].shape == (1, size, size, WIDTHS[sequences - 1])
    assert set(shapes) == {"stem", *names, *(["head"] if stages == 4 else [])}
    blocks = {f"block{block}" for block in range(1, LAST_BLOCKS[sequences - 1] + 1)}
    assert set(variables["params"]) - {"stem", "head"} == blocks


def test_stages_that_are_no_choice():
    with pytest.raises(ValueError, match="stages is 5; choose one of 1, 2, 3, 4"):
        MobileNetV2(stages=5)


def test_published_parameter_count_and_names():
    """3,504,872 parameters, the number of the published network of 1,000 classes."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(MobileNetV2(num_classes=1000).init, jax.random.key(0), image)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == 3_504_872
    assert set(params) == {"stem", "head", "classifier", *(f"block{i}" for i in range(1, 18))}
    assert set(params["block1"]) == {"depthwise", "project"}
    assert set(params["block2"]) == {"expand", "depthwise", "project"}
    assert params["block2"]["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 96)


def test_stages_equal_numpy():
    """Output stride 8 of a 33 x 46 image, strides and dilations written out."""
    network = MobileNetV2(output_stride=8, num_classes=5, dtype=jnp.float64)
    image = images(1, (1, 33, 46, 3))
    variables = float64_variables()
    with jax.enable_x64(True):
        features = jax.jit(network.apply)(variables, image)

    def conv_bn(x, *path, stride=1, dilation=1, top=6.0):
        params, stats = variables["params"], variables["batch_stats"]
        for key in path:
            params, stats = params[key], stats[key]
        kernel = params["conv"]["kernel"]
        if path[-1] == "depthwise":
            pad = ((dilation, dilation), (dilation, dilation), (0, 0))
            height, width = -(-x.shape[0] // stride), -(-x.shape[1] // stride)
            padded = np.pad(x, pad)
            x = sum(
                padded[dilation * i :: stride, dilation * j :: stride][:height, :width]
                * kernel[i, j, 0]
                for i in range(3)
                for j in range(3)
            )
        elif kernel.shape[0] == 1:
            x = x @ kernel[0, 0]
        else:
            x = convolve(x, kernel, stride, 1, 1)
        x = normalise(x, params["bn"], stats["bn"])
        return x if top is None else np.clip(x, 0.0, top)

    def equal(name, expected):
        assert features[name].dtype == jnp.float64
        np.testing.assert_allclose(features[name][0], expected, rtol=1e-9, atol=1e-10)

    x = conv_bn(image[0], "stem", stride=2)
    equal("stem", x)
    # Stride and dilation of the blocks; the 7th keeps dilation 1 and the 14th dilation 2.
    strides = {2: 2, 4: 2}
    dilations = dict.fromkeys(range(8, 15), 2) | dict.fromkeys(range(15, 18), 4)
    for index in range(1, 18):
        name = f"block{index}"
        y = conv_bn(x, name, "expand") if index > 1 else x
        stride, dilation = strides.get(index, 1), dilations.get(index, 1)
        y = conv_bn(y, name, "depthwise", stride=stride, dilation=dilation)
        y = conv_bn(y, name, "project", top=None)
        x = x + y if index in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16) else y
        if index in LAST_BLOCKS:
            equal(f"stage{LAST_BLOCKS.index(index) + 1}", x)
    x = conv_bn(x, "head")
    equal("head", x)
    dense = variables["params"]["classifier"]
    equal("logits", x.mean(axis=(0, 1)) @ dense["kernel"] + dense["bias"])


@pytest.mark.long
def test_smaller_stride_subsampled_equals_larger():
    """The stride-s/2 features at even positions are the stride-s features of the same weights."""
    image = images(2, (1, 33, 46, 3))
    features = {}
    for stride in (8, 16, 32):
        network = MobileNetV2(output_stride=stride, dtype=jnp.float64)
        with jax.enable_x64(True):
            run = jax.jit(network.apply)
            features[stride] = run(float64_variables(), image)
    for stride in (16, 32):
        for name in ("stage6", "stage7", "head"):
            coarse, dense = features[stride][name], features[stride // 2][name]
            assert coarse.shape[1:3] == (-(-33 // stride), -(-46 // stride))
            np.testing.assert_allclose(dense[:, ::2, ::2], coarse, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("output_stride", [4, 12, 64])
def test_output_stride_that_is_no_choice(output_stride):
    message = rf"output_stride is {output_stride}; choose one of \(8, 16, 32\)"
    with pytest.raises(ValueError, match=message):
        MobileNetV2(output_stride=output_stride)


@pytest.mark.long
def test_training_moves_every_statistic_and_drops():
    network = MobileNetV2(output_stride=16, num_classes=5, dtype=jnp.float64)
    variables = float64_variables()

    def step(variables, x, key):
        features, updates = network.apply(
            variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return features["logits"], updates["batch_stats"]

    # Flax promotes the dtype of statistics by itself.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        batch = images(3, (2, 32, 48, 3))
        run = jax.jit(step)
        logits, stats = run(variables, batch, jax.random.key(0))
        others, same = run(variables, batch, jax.random.key(1))
    assert not np.allclose(logits, others)
    jax.tree.map(np.testing.assert_array_equal, stats, same)
    moved = jax.tree.map(
        lambda x, y: bool((np.asarray(x) != y).any()), stats, variables["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))


def test_every_statistic_is_shared_over_the_axis():
    """The dropout masks depend on the device that they are on."""
    network = MobileNetV2(num_classes=5, axis_name="data")
    variables = jax.tree.map(lambda x: x.astype(np.float32), float64_variables())

    def step(x):
        rngs = {"dropout": jax.random.key(0)}
        return network.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)[1]

    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(step, axis_env=[("data", 2)])(images)
    names = [equation.primitive.name for equation in jaxpr.eqns]
    sums = [name for name in names if name.startswith("psum")]
    assert len(sums) == len(jax.tree.leaves(variables["batch_stats"])) // 2
    assert names.count("axis_index") == 1
