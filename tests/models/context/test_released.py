"""The released context block against NumPy loops, and under jit, in batches and in training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import released_reference as reference
from ranet_jax.models.context.released import ListConvBN, ReleasedContext

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, CLASSES, CHANNELS = 4, 5, 3, 8
CONVOLUTIONS = (
    "dsn",
    "feats_conv",
    "query_conv",
    "value_conv",
    "collect_conv",
    "interact_conv",
    "distribute_conv",
    "final_conv",
)
SCORES = ("dsn_semantic_logit", "dsn_boundary_logit")


def block(**settings):
    defaults = {"num_regions": 4, "per_region": 2, "threshold": 0.9, "dropout": 0.0}
    return ReleasedContext(num_classes=CLASSES, channels=CHANNELS, **(defaults | settings))


def random_features(seed, batch=1, shape=(HEIGHT, WIDTH)):
    rng = np.random.default_rng(seed)
    return {
        "layer3": jnp.asarray(rng.normal(size=(batch, *shape, 6)), jnp.float32),
        "layer4": jnp.asarray(rng.normal(size=(batch, *shape, 7)), jnp.float32),
    }


def random_variables(seed=0, sharpness=3.0):
    """Random parameters and statistics; `sharpness` scales the scores the regions come from."""
    shapes = jax.eval_shape(block().init, jax.random.key(0), random_features(0))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        module, name = path[-2].key, path[-1].key
        if name in ("var", "scale"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        elif name == "kernel":
            value = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
            value = value * (sharpness if module in SCORES else 1.0)
        else:
            value = 0.3 * rng.normal(size=leaf.shape)
        return jnp.asarray(value, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def reference_parameters(variables):
    params, statistics = jax.tree.map(
        lambda x: np.asarray(x, np.float64), (variables["params"], variables["batch_stats"])
    )
    plain = {}
    for name in CONVOLUTIONS:
        norm = {"scale": params[name]["bn"]["scale"], "shift": params[name]["bn"]["bias"]}
        plain[name] = params[name]["conv"] | norm | statistics[name]["bn"]
    for name in SCORES:
        plain[name] = params[name] | {"kernel": params[name]["kernel"][0, 0]}
    return plain


def reference_block(features, variables, threshold=0.9, per_region=2):
    layers = [np.asarray(features[name][0], np.float64) for name in ("layer3", "layer4")]
    return reference.block(*layers, reference_parameters(variables), threshold, per_region)


def agrees(output, expected):
    for name in ("coarse", "boundary", "features"):
        np.testing.assert_allclose(
            getattr(output, name)[0], expected[name], rtol=1e-5, atol=1e-5, err_msg=name
        )
    np.testing.assert_array_equal(output.regions.labels[0], expected["labels"])
    np.testing.assert_allclose(output.regions.score[0], expected["score"], atol=1e-5)


@functools.partial(jax.jit, static_argnames=("threshold", "per_region"))
def apply(variables, features, **settings):
    return block(**settings).apply(variables, features)


@jax.jit
def gradients(variables, features):
    """Gradients of a random combination of the output by parameters and features."""

    def loss(params, features):
        output = block().apply(variables | {"params": params}, features)
        return jnp.sum(output.features * loss_weights(output.features.shape))

    return jax.grad(loss, argnums=(0, 1))(variables["params"], features)


def loss_weights(shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_forward_equals_numpy():
    regions = set()
    for seed in range(5):
        for sharpness in (1.0, 3.0):
            features, variables = random_features(seed), random_variables(seed, sharpness)
            expected = reference_block(features, variables)
            agrees(apply(variables, features), expected)
            regions.add(len(set(expected["labels"])))
    assert 1 in regions and max(regions) > 5


def test_every_pixel_a_region():
    features, variables = random_features(1), random_variables(1)
    expected = reference_block(features, variables, threshold=1.0)
    np.testing.assert_array_equal(expected["labels"], np.arange(HEIGHT * WIDTH))
    agrees(apply(variables, features, threshold=1.0), expected)


def test_small_regions_and_eight_representatives():
    features, variables = random_features(2), random_variables(2)
    expected = reference_block(features, variables, per_region=8)
    sizes = np.bincount(expected["labels"])
    assert (sizes[sizes > 0] < 8).any()
    agrees(apply(variables, features, per_region=8), expected)


def test_certain_scores_equal_numpy_and_have_finite_gradients():
    features, variables = random_features(3), random_variables(3, sharpness=300.0)
    agrees(apply(variables, features), reference_block(features, variables))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients(variables, features)))


def test_gradients_reach_everything_and_equal_finite_differences():
    features, variables = random_features(4), random_variables(4)
    params, inputs = gradients(variables, features)
    for path, leaf in jax.tree_util.tree_leaves_with_path((params, inputs)):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), path

    weights = loss_weights((1, HEIGHT, WIDTH, CHANNELS))[0]
    for layer in ("layer3", "layer4"):
        direction = np.random.default_rng(9).normal(size=features[layer].shape)
        values = []
        for step in (1e-5, -1e-5):
            moved = {k: np.asarray(v, np.float64) for k, v in features.items()}
            moved[layer] = moved[layer] + step * direction
            values.append(np.sum(reference_block(moved, variables)["features"] * weights))
        expected = (values[0] - values[1]) / 2e-5
        result = np.sum(np.asarray(inputs[layer]) * direction)
        np.testing.assert_allclose(result, expected, rtol=1e-3)


@pytest.mark.long
def test_jit_equals_eager():
    features, variables = random_features(5), random_variables(5)
    eager, jitted = block().apply(variables, features), apply(variables, features)
    for one, other in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_batch_equals_each_alone():
    features, variables = random_features(6, batch=2), random_variables(6)
    both = apply(variables, features)
    for index in range(2):
        alone = apply(variables, {k: v[index : index + 1] for k, v in features.items()})
        for one, other in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(one[index : index + 1], other, atol=1e-5)


def test_representatives_of_the_regions_are_grouped():
    features, variables = random_features(7), random_variables(7)
    regions = apply(variables, features).regions
    roots, indices, valid = (np.asarray(x[0]) for x in regions.representatives)
    assert roots.shape == (4,) and indices.shape == valid.shape == (4, 2)
    labels = np.asarray(regions.labels[0])
    assert valid.any()
    for root, pixels, known in zip(roots, indices, valid, strict=True):
        assert (labels[pixels[known]] == root).all()


def test_training_is_finite_and_updates_all_statistics():
    features, variables = random_features(8, batch=2), random_variables(8)

    @jax.jit
    def train(params):
        def loss(params):
            output, updated = block(dropout=0.5).apply(
                variables | {"params": params},
                features,
                True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            return output.features.sum(), updated

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, updated), gradient = train(variables["params"])
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    old, new = (jax.tree.leaves(x["batch_stats"]) for x in (variables, updated))
    for one, other in zip(old, new, strict=True):
        assert np.isfinite(other).all() and np.all(one != other)


def padded_lists(seed, counts=(3, 5), rows=6, channels=4):
    """Lists of the given lengths, with large values in their padding."""
    rng = np.random.default_rng(seed)
    valid = np.arange(rows) < np.array(counts)[:, None]
    inputs = rng.normal(size=(len(counts), rows, channels))
    inputs[~valid] = 1e3
    return jnp.asarray(inputs, jnp.float32), jnp.asarray(valid)


def list_variables(module, inputs, valid, seed=0):
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs, valid)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.5, 1, x.shape), jnp.float32), shapes)


def test_list_convolution_normalises_by_its_valid_rows():
    inputs, valid = padded_lists(0)
    module = ListConvBN(5)
    initial = module.init(jax.random.key(0), inputs, valid, True)["batch_stats"]["bn"]
    np.testing.assert_array_equal(initial["mean"], 0)
    np.testing.assert_array_equal(initial["var"], 1)
    variables = list_variables(module, inputs, valid)
    output, updated = module.apply(variables, inputs, valid, True, mutable=["batch_stats"])

    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    kernel = exact["params"]["conv"]["kernel"]
    lists = [np.asarray(x[v], np.float64)[:, None] for x, v in zip(inputs, valid, strict=True)]
    rows = np.concatenate([reference.convolve(x, {"kernel": kernel})[:, 0] for x in lists])
    mean, var = rows.mean(axis=0), rows.var(axis=0)
    norm = {
        "mean": mean,
        "var": var,
        "scale": exact["params"]["bn"]["scale"],
        "shift": exact["params"]["bn"]["bias"],
    }
    expected = reference.normalise(rows, norm)
    expected = np.where(expected > 0, expected, 0.01 * expected)
    np.testing.assert_allclose(output[valid], expected, atol=1e-5)
    for name, statistic in (("mean", mean), ("var", var)):
        running = 0.9 * exact["batch_stats"]["bn"][name] + 0.1 * statistic
        np.testing.assert_allclose(updated["batch_stats"]["bn"][name], running, atol=1e-5)


def test_list_convolution_on_two_devices_equals_one():
    inputs, valid = padded_lists(1, counts=(1, 6))
    alone, mapped = ListConvBN(5), ListConvBN(5, axis_name="data")
    variables = list_variables(alone, inputs, valid)

    def step(module):
        return lambda x, v: module.apply(variables, x, v, True, mutable=["batch_stats"])

    output, updated = step(alone)(inputs, valid)
    outputs, updates = jax.pmap(step(mapped), "data", devices=jax.devices()[:2])(
        inputs[:, None], valid[:, None]
    )
    np.testing.assert_allclose(outputs[:, 0][valid], output[valid], atol=1e-5)
    for one, two in zip(jax.tree.leaves(updated), jax.tree.leaves(updates), strict=True):
        np.testing.assert_allclose(two, np.stack([one, one]), atol=1e-5)


def test_half_precision_features_and_single_precision_scores():
    features, variables = random_features(10), random_variables(10)
    half = {k: v.astype(jnp.bfloat16) for k, v in features.items()}

    def dtypes(variables, features):
        output = block(dtype=jnp.bfloat16).apply(variables, features)
        return output.features, output.coarse, output.boundary, output.regions.score

    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm relies on it
        result = [x.dtype for x in jax.eval_shape(dtypes, variables, half)]
    assert result == [jnp.bfloat16] + [jnp.float32] * 3
