"""HRNetV2 against the whole network in NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import convolve, normalise, random_variables
from ranet_jax.models.backbones.hrnet import HRNet, resize_twice

pytestmark = pytest.mark.slow

NETWORK = HRNet(width=3, num_classes=5, dtype=jnp.float64)


@functools.cache
def float64_variables():
    """Random variables as NumPy arrays; the BatchNorms keep sums of many branches small."""
    single = NETWORK.clone(dtype=jnp.float32)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.tree_util.tree_map_with_path(
        lambda path, x: np.asarray(x * 0.3 if path[-1].key == "scale" else x, np.float64),
        random_variables(single, image),
    )


@functools.cache
def shapes_of_w48(size, num_classes):
    """Shapes of what HRNetV2-W48 returns for two images, and of its variables."""
    network = HRNet(num_classes=num_classes)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(network.init_with_output, jax.random.key(0), images)


def images(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


def nearest(x, shape):
    """Nearest pixels, index by index, with positions as exact fractions of the input size."""
    out = np.empty((*shape, x.shape[2]))
    for i in range(shape[0]):
        for j in range(shape[1]):
            out[i, j] = x[math.floor(i * x.shape[0] / shape[0]), j * x.shape[1] // shape[1]]
    return out


def bilinear(x, shape):
    """Interpolation with aligned corners, along one axis and then along the other."""
    for axis, size in enumerate(shape):
        length = x.shape[axis]
        positions = np.linspace(0, length - 1, size)
        weights = np.stack([np.interp(positions, np.arange(length), row) for row in np.eye(length)])
        x = np.moveaxis(np.tensordot(weights, x, (0, axis)), 0, axis)
    return x


def relu(x):
    return np.maximum(x, 0.0)


class NumpyHRNet:
    """The network layer by layer, for one image."""

    def __init__(self, variables):
        self.params, self.stats = variables["params"], variables["batch_stats"]

    def conv_bn(self, x, conv, bn, stride=1, within=None):
        params = self.params[within] if within else self.params
        stats = self.stats[within] if within else self.stats
        kernel = params[conv]["kernel"]
        x = convolve(x, kernel, stride, 1, kernel.shape[0] // 2)
        return normalise(x + params[conv].get("bias", 0.0), params[bn], stats[bn])

    def layer(self, x, name, stride=1):
        return self.conv_bn(x, "conv", "bn", stride, name)

    def residual(self, x, name, convolutions):
        y = x
        for k in range(1, convolutions + 1):
            y = self.conv_bn(y, f"conv{k}", f"bn{k}", within=name)
            y = relu(y) if k < convolutions else y
        if "conv_shortcut" in self.params[name]:
            x = self.conv_bn(x, "conv_shortcut", "bn_shortcut", within=name)
        return relu(x + y)

    def module(self, xs, name):
        for b in range(len(xs)):
            for k in range(4):
                xs[b] = self.residual(xs[b], f"{name}_branch{b}_block{k}", 2)
        sums = list(xs)
        for i in range(len(xs)):
            for j in range(len(xs)):
                fuse = f"{name}_fuse{i}_{j}"
                if j > i:
                    sums[i] = sums[i] + nearest(self.layer(xs[j], fuse), xs[i].shape[:2])
                elif j < i:
                    y = xs[j]
                    for k in range(i - j - 1):
                        y = relu(self.layer(y, f"{fuse}_down{k}", 2))
                    sums[i] = sums[i] + self.layer(y, f"{fuse}_down{i - j - 1}", 2)
        return [relu(x) for x in sums]

    def __call__(self, image):
        x = relu(self.conv_bn(image, "conv1", "bn1", 2))
        features = {"stem": relu(self.conv_bn(x, "conv2", "bn2", 2))}
        x = features["stem"]
        for k in range(4):
            x = self.residual(x, f"layer1_block{k}", 3)
        features["layer1"] = x
        xs = [
            relu(self.layer(x, "transition1_branch0")),
            relu(self.layer(x, "transition1_branch1_down0", 2)),
        ]
        xs = self.module(xs, "stage2_module0")
        features["stage2"] = xs[0]
        xs.append(relu(self.layer(xs[1], "transition2_branch2_down0", 2)))
        for m in range(4):
            xs = self.module(xs, f"stage3_module{m}")
        features["stage3"] = xs[0]
        xs.append(relu(self.layer(xs[2], "transition3_branch3_down0", 2)))
        for m in range(3):
            xs = self.module(xs, f"stage4_module{m}")
        features |= {"stage4": xs[0]} | {f"stage4_branch{b}": xs[b] for b in (1, 2, 3)}
        features["features"] = np.concatenate([bilinear(x, xs[0].shape[:2]) for x in xs], axis=-1)
        y = self.residual(xs[0], "incre0", 3)
        for i in (1, 2, 3):
            y = relu(self.layer(y, f"downsamp{i - 1}", 2)) + self.residual(xs[i], f"incre{i}", 3)
        mean = relu(self.layer(y, "final")).mean(axis=(0, 1))
        dense = self.params["classifier"]
        features["logits"] = mean @ dense["kernel"] + dense["bias"]
        return features


@pytest.mark.long
def test_network_equals_numpy_in_float64():
    """Branches of 9 x 16, 5 x 8, 3 x 4 and 2 x 2 pixels: only one axis has whole factors."""
    image = images(0, (1, 33, 64, 3))
    variables = float64_variables()
    with jax.enable_x64(True):
        features = jax.jit(NETWORK.apply)(variables, image)
    expected = NumpyHRNet(variables)(image[0])
    assert set(features) == set(expected)
    for name, value in expected.items():
        assert features[name].dtype == jnp.float64
        assert features[name].shape[1:] == value.shape
        np.testing.assert_allclose(features[name][0], value, rtol=1e-9, atol=1e-10)


@pytest.mark.long
@pytest.mark.parametrize(
    "size, num_classes, sizes",
    [
        ((96, 128), 1000, ((24, 32), (12, 16), (6, 8), (3, 4))),
        ((97, 130), None, ((25, 33), (13, 17), (7, 9), (4, 5))),
    ],
)
def test_feature_sizes_and_names(size, num_classes, sizes):
    shapes, _ = shapes_of_w48(size, num_classes)
    channels = {"stem": (0, 64), "layer1": (0, 256), "features": (0, 720)}
    channels |= {f"stage{stage}": (0, 48) for stage in (2, 3, 4)}
    channels |= {f"stage4_branch{b}": (b, 48 * 2**b) for b in (1, 2, 3)}
    expected = {name: (2, *sizes[branch], c) for name, (branch, c) in channels.items()}
    if num_classes is not None:
        expected["logits"] = (2, num_classes)
    assert {name: x.shape for name, x in shapes.items()} == expected


@pytest.mark.long
def test_published_parameter_count():
    """77,469,864 parameters, the number of the published W48 of 1,000 classes."""
    _, variables = shapes_of_w48((96, 128), 1000)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 77_469_864


def test_width_that_is_no_choice():
    with pytest.raises(ValueError, match="width is 0; it must be positive"):
        HRNet(width=0)
    with pytest.raises(ValueError, match="fusion is 'cubic'; choose one of"):
        HRNet(fusion="cubic")


@pytest.mark.parametrize("shape", [(7, 9), (8, 10), (8, 9)])
def test_resize_twice_equals_pytorch(shape):
    """Maps are resized by a factor of 2 and then, at odd ends, to a smaller size."""
    maps = images(1, (2, 4, 5, 3)).astype(np.float32)
    resize = functools.partial(torch.nn.functional.interpolate, mode="bilinear")
    doubled = resize(torch.from_numpy(maps.transpose(0, 3, 1, 2).copy()), (8, 10))
    expected = resize(doubled, shape).numpy().transpose(0, 2, 3, 1)
    found = resize_twice(jnp.asarray(maps), shape, 2)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.long
def test_training_moves_every_statistic():
    variables = float64_variables()

    def step(variables, x):
        return NETWORK.apply(variables, x, train=True, mutable=["batch_stats"])[1]["batch_stats"]

    # Flax promotes the dtype of statistics by itself.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        batch = images(2, (2, 33, 64, 3))
        stats = jax.jit(step)(variables, batch)
    moved = jax.tree.map(
        lambda x, y: bool((np.asarray(x) != y).any()), stats, variables["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))
    convolved = [convolve(x, variables["params"]["conv1"]["kernel"], 2, 1, 1) for x in batch]
    mean = 0.9 * variables["batch_stats"]["bn1"]["mean"] + 0.1 * np.mean(convolved, axis=(0, 1, 2))
    np.testing.assert_allclose(stats["bn1"]["mean"], mean, rtol=1e-9)


@pytest.mark.long
def test_every_statistic_is_shared_over_the_axis():
    network = HRNet(width=3, num_classes=5, axis_name="data")
    variables = jax.tree.map(lambda x: x.astype(np.float32), float64_variables())

    def step(x):
        return network.apply(variables, x, train=True, mutable=["batch_stats"])[1]

    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(step, axis_env=[("data", 2)])(images)
    sums = [equation for equation in jaxpr.eqns if equation.primitive.name.startswith("psum")]
    assert len(sums) == len(jax.tree.leaves(variables["batch_stats"])) // 2
