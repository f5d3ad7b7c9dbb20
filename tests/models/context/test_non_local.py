"""The non-local block against NumPy float64, on the module's own parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import convolve, normalise, random_variables, softmax
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models import Segmenter, build_model
from ranet_jax.models.context.non_local import NonLocalContext, attend
from ranet_jax.training.losses import segmentation_loss

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, CHANNELS, STAGE_CHANNELS = 3, 4, 6, 5


def random_stages():
    rng = np.random.default_rng(3)
    stage = rng.normal(size=(2, HEIGHT, WIDTH, STAGE_CHANNELS))
    return {"layer2": jnp.zeros((2, 1, 1, 1)), "layer3": jnp.asarray(stage, jnp.float32)}


def context(dtype=jnp.float32):
    return NonLocalContext("layer3", CHANNELS, dtype)


def expected_attention(query, key, value):
    """Attention of one pixel after another."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    rows = [softmax(key @ one / np.sqrt(len(one))) @ value for one in query]
    return np.stack(rows)


def expected_features(variables, image):
    params, stats = variables["params"], variables["batch_stats"]

    def conv_bn(x, name):
        kernel = params[name]["conv"]["kernel"]
        x = convolve(x, kernel, 1, 1, (kernel.shape[0] - 1) // 2)
        return normalise(x, params[name]["bn"], stats[name]["bn"])

    def embed(x, name):
        return x.reshape(HEIGHT * WIDTH, -1) @ np.asarray(params[name]["kernel"], np.float64)[0, 0]

    visual = np.maximum(conv_bn(image, "reduce"), 0)
    gathered = expected_attention(*(embed(visual, name) for name in ("theta", "phi", "g")))
    context = visual + conv_bn(gathered.reshape(HEIGHT, WIDTH, -1), "project")
    return np.maximum(conv_bn(np.concatenate([visual, context], axis=-1), "fuse"), 0)


def test_attention_equals_numpy():
    rng = np.random.default_rng(0)
    query, key, value = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 3), (5, 3), (5, 2))
    )
    expected = expected_attention(query, key, value)
    np.testing.assert_allclose(attend(query, key, value), expected, atol=1e-6)


def test_the_nearest_key_takes_all_and_equal_keys_share():
    key = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    value = jnp.array([[3.0], [7.0]])
    np.testing.assert_allclose(attend(1e4 * key, key, value), value, rtol=1e-6)
    np.testing.assert_allclose(attend(jnp.zeros((1, 2)), key, value), [[5.0]])


def test_context_equals_numpy():
    stages = random_stages()
    variables = random_variables(context(), stages)
    output = jax.jit(context().apply)(variables, stages)
    assert (output.coarse, output.boundary, output.regions) == (None, None, None)
    for i in range(2):
        expected = expected_features(variables, stages["layer3"][i])
        np.testing.assert_allclose(output.features[i], expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_attends_in_float32():
    stages = random_stages()
    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm promotes
        variables = random_variables(context(jnp.bfloat16), stages)
        output = jax.jit(context(jnp.bfloat16).apply)(variables, stages)
        attention = jax.make_jaxpr(attend)(*(jnp.zeros((4, 3), jnp.bfloat16) for _ in range(3)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert output.features.dtype == jnp.bfloat16
    assert attention.out_avals[0].dtype == jnp.bfloat16
    tables = [
        variable.aval
        for equation in attention.jaxpr.eqns
        for variable in equation.outvars
        if variable.aval.shape == (4, 4)
    ]
    assert {table.dtype for table in tables} == {jnp.dtype("float32")}
    for i in range(2):
        expected = expected_features(variables, stages["layer3"][i])
        found = np.asarray(output.features[i], np.float64)
        np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_training_starts_from_the_network_without_context():
    init = jax.jit(lambda key: context().init(key, random_stages())["params"]["project"]["bn"])
    start = init(jax.random.key(0))
    assert set(start) == {"scale", "bias"}
    for values in start.values():
        np.testing.assert_array_equal(values, 0)


@pytest.mark.parametrize("channels, inner", [(512, 256), (7, 3)])
def test_parameter_count(channels, inner):
    stages = {"layer4": jax.ShapeDtypeStruct((1, 3, 3, 20), jnp.float32)}
    module = NonLocalContext("layer4", channels)
    params = jax.eval_shape(module.init, jax.random.key(0), stages)["params"]
    norm = 2 * channels
    expected = {
        "reduce": 9 * 20 * channels + norm,
        "theta": channels * inner,
        "phi": channels * inner,
        "g": channels * inner,
        "project": inner * channels + norm,
        "fuse": 9 * 2 * channels * channels + norm,
    }
    found = {name: sum(x.size for x in jax.tree.leaves(params[name])) for name in params}
    assert found == expected


class OneStage(nn.Module):
    """A backbone that returns its images as features."""

    def __call__(self, images, train):
        return {"layer3": images}


def test_the_block_learns_from_the_fine_loss_alone():
    model = Segmenter(OneStage(), context(), num_classes=3, dropout=0.0)
    images = random_stages()["layer3"][..., :3]
    labels = jnp.zeros((2, HEIGHT, WIDTH), jnp.int32).at[:, 1:].set(1)
    variables = random_variables(model, images)
    weights = default_config().loss.to_dict()

    @jax.jit
    def gradients(params):
        def loss(params):
            outputs, _ = model.apply(
                variables | {"params": params}, images, train=True, mutable=["batch_stats"]
            )
            return segmentation_loss(outputs, labels, weights, 255, jnp.float32(labels.size))

        return jax.grad(loss, has_aux=True)(params)

    found, terms = gradients(variables["params"])
    assert set(terms) == {"fine"}
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(leaf).all()
    for name in ("theta", "phi", "g", "project"):
        assert any(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(found["context"][name]))


def test_a_config_names_it():
    config = default_config()
    config.model.update(context="nonlocal", stages=3, channels=8, variant="released")
    model = build_model(config, num_classes=3)
    assert model.context == NonLocalContext("layer3", 8)
    assert not model.fine_boundary
    config.model.channels = 1
    with pytest.raises(UserError, match="needs at least 2 channels"):
        build_model(config, num_classes=3)
