"""ResNet against NumPy convolutions and against properties of dilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import convolve, normalise
from ranet_jax.models.backbones import ResNet

pytestmark = pytest.mark.slow


def randomised(variables, seed):
    """Variables with random values, BatchNorm statistics and scales included."""
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(
        tree, [jnp.asarray(rng.uniform(0.05, 0.5, x.shape), jnp.float32) - 0.1 for x in leaves]
    )


def positive_variances(variables):
    return {
        "params": variables["params"],
        "batch_stats": jax.tree_util.tree_map_with_path(
            lambda path, x: jnp.abs(x) + 0.5 if path[-1].key == "var" else x,
            variables["batch_stats"],
        ),
    }


def build(seed=0, **kwargs):
    network = ResNet(width=4, **kwargs)
    variables = network.init(jax.random.PRNGKey(0), jnp.zeros((1, 33, 33, 3)))
    return network, positive_variances(randomised(variables, seed))


def conv_bn(x, variables, path, suffix, stride=1, dilation=1):
    params, stats = variables["params"], variables["batch_stats"]
    for key in path:
        params, stats = params[key], stats[key]
    kernel = params[f"conv{suffix}"]["kernel"]
    pad = dilation * (kernel.shape[0] - 1) // 2
    x = convolve(x, kernel, stride, dilation, pad)
    return normalise(x, params[f"bn{suffix}"], stats[f"bn{suffix}"])


def max_pool(x, pads):
    x = np.pad(x, (pads, pads, (0, 0)), constant_values=-np.inf)
    height, width = (x.shape[0] - 3) // 2 + 1, (x.shape[1] - 3) // 2 + 1
    return np.array(
        [
            [x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(0, 1)) for j in range(width)]
            for i in range(height)
        ]
    )


def relu(x):
    return np.maximum(x, 0.0)


def block(x, variables, name, bottleneck, stride, first_dilation, dilation):
    path = (name,)
    shortcut = x
    if "conv_shortcut" in variables["params"][name]:
        shortcut = conv_bn(x, variables, path, "_shortcut", stride)
    if bottleneck:
        y = relu(conv_bn(x, variables, path, "1"))
        y = relu(conv_bn(y, variables, path, "2", stride, first_dilation))
        y = conv_bn(y, variables, path, "3")
    else:
        y = relu(conv_bn(x, variables, path, "1", stride, first_dilation))
        y = conv_bn(y, variables, path, "2", 1, dilation)
    return relu(y + shortcut)


@pytest.mark.long
@pytest.mark.parametrize("depth", [18, 50])
def test_stages_equal_numpy(depth):
    """Strides and dilations written out: output stride 8 of a 17 x 24 image, by hand."""
    network, variables = build(depth=depth, output_stride=8, stages=3)
    image = np.random.default_rng(1).normal(size=(17, 24, 3)).astype(np.float32)
    features = network.apply(variables, jnp.asarray(image)[None])
    bottleneck = depth == 50
    x = relu(conv_bn(image, variables, (), "1", 2))
    np.testing.assert_allclose(features["stem"][0], x, rtol=1e-4, atol=1e-4)
    x = max_pool(x, (1, 1))
    blocks = {18: (2, 2, 2), 50: (3, 4, 6)}[depth]
    plans = ((1, 1, 1), (2, 1, 1), (1, 1, 2))  # stride, dilation of the first block, of the rest
    for stage, ((stride, first, dilation), count) in enumerate(zip(plans, blocks, strict=True), 1):
        for index in range(count):
            arguments = (stride, first) if index == 0 else (1, dilation)
            x = block(x, variables, f"layer{stage}_block{index}", bottleneck, *arguments, dilation)
        assert features[f"layer{stage}"].shape[1:] == x.shape
        np.testing.assert_allclose(features[f"layer{stage}"][0] / x.max(), x / x.max(), atol=1e-4)


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(31, 46), pytest.param((33, 33), marks=pytest.mark.long)])
def test_smaller_stride_subsampled_equals_larger(stride, size):
    """The stride-s/2 features at even positions are the stride-s features of the same weights."""
    network, variables = build(depth=18, output_stride=stride)
    dense = network.clone(output_stride=stride // 2)
    image = jax.random.normal(jax.random.PRNGKey(2), (1, *size, 3))
    coarse = network.apply(variables, image)["layer4"]
    subsampled = dense.apply(variables, image)["layer4"][:, ::2, ::2]
    np.testing.assert_allclose(subsampled, coarse, rtol=1e-3)


def test_feature_sizes_and_names():
    image = jax.ShapeDtypeStruct((2, 65, 97, 3), jnp.float32)
    for stride, last in ((8, (9, 13)), (16, (5, 7)), (32, (3, 4))):
        network = ResNet(depth=101, output_stride=stride, stem="deep")
        shapes = jax.eval_shape(
            lambda x, network=network: network.init_with_output(jax.random.PRNGKey(0), x)[0], image
        )
        assert set(shapes) == {"stem", "layer1", "layer2", "layer3", "layer4"}
        assert shapes["stem"].shape == (2, 33, 49, 128)
        assert shapes["layer1"].shape == (2, 17, 25, 256)
        assert shapes["layer4"].shape == (2, *last, 2048)


def convolutions(jaxpr):
    """Equations that convolve, including those of functions with custom gradients."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        elif equation.primitive.name == "custom_vjp_call":
            yield from convolutions(equation.params["call_jaxpr"].jaxpr)


def test_released_backbone_pools_the_last_row_and_dilates_by_its_grid():
    """ceil_mode makes 64 -> 32 -> 17; layer4's 3 x 3 convolutions reach 16, 32 and 64 pixels."""
    network = ResNet(
        depth=50,
        output_stride=8,
        stem="deep",
        multi_grid=(4, 8, 16),
        dilate_first_block=True,
        ceil_pool=True,
    )
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda x: network.init_with_output(jax.random.PRNGKey(0), x)[0])(image)
    assert any(aval.shape == (1, 9, 9, 2048) for aval in jaxpr.out_avals)
    dilations = [equation.params["rhs_dilation"][0] for equation in convolutions(jaxpr.jaxpr)]
    assert [d for d in dilations if d > 1] == [2] * 6 + [16, 32, 64]


def test_ceil_pool_equals_numpy():
    network, variables = build(depth=18, stages=1, ceil_pool=True, stem="deep")
    image = jax.random.normal(jax.random.PRNGKey(3), (1, 10, 14, 3))
    features = network.apply(variables, image)
    x = max_pool(np.asarray(features["stem"][0], np.float64), (1, 2))
    for index in range(2):
        x = block(x, variables, f"layer1_block{index}", False, 1, 1, 1)
    assert features["layer1"].shape[1:3] == (3, 4)
    np.testing.assert_allclose(features["layer1"][0], x, rtol=1e-4, atol=1e-4)


def test_published_parameter_counts():
    """11.69M and 44.55M parameters (torchvision's tables) less the classifiers of 1,000 classes."""
    for depth, published, width in ((18, 11_689_512, 512), (101, 44_549_160, 2048)):
        shapes = jax.eval_shape(
            ResNet(depth=depth).init, jax.random.PRNGKey(0), jnp.zeros((1, 32, 32, 3))
        )
        count = sum(x.size for x in jax.tree.leaves(shapes["params"]))
        assert count == published - 1000 * (width + 1)


@pytest.mark.parametrize(
    "field, value", [("depth", 20), ("output_stride", 7), ("stem", "conv3"), ("stages", 5)]
)
def test_values_that_are_no_choice(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        ResNet(**({"depth": 18} | {field: value}))
