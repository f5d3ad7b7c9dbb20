"""Properties of every context block, and checks of what each block declares."""

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import random_variables
from helpers.small_models import every_block, small_config
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.models.context import PixelPairs

pytestmark = pytest.mark.slow

CLASSES = 5

# Strides of the scores in input pixels, where they differ from the last stage's.
STRIDES = {"unet": 1, "fpn": 4, "deeplabv3plus": 4}


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*shape, 3)), jnp.float32)


@every_block
def test_outputs_are_those_that_the_block_declares(block):
    model = build_model(small_config(block), CLASSES)

    def maps(inputs):
        outputs, _ = model.init_with_output(jax.random.key(0), inputs)
        return {name: getattr(outputs, name) for name in ("fine", "coarse", "fine_boundary")}

    outputs = jax.eval_shape(maps, images(2, 33, 41))
    stride = STRIDES.get(block.name, 8)
    size = (-(-33 // stride), -(-41 // stride))
    declared = {"fine": True, "coarse": block.has_coarse, "fine_boundary": block.has_fine_boundary}
    for name, is_given in declared.items():
        scores, channels = outputs[name], 2 if name == "fine_boundary" else CLASSES
        assert (scores is not None) == is_given, name
        assert scores is None or scores.shape == (2, *size, channels)


def features(size):
    """Random features of the stages that blocks read, all of one size and with few channels."""
    rng = np.random.default_rng(0)
    channels = {"layer3": 4, "layer4": 8, "layer1": 4, "image": 3, "stem": 4, "layer2": 4}
    draw = {name: rng.normal(size=(1, *size, depth)) for name, depth in channels.items()}
    return {name: jnp.asarray(stage, jnp.float32) for name, stage in draw.items()}


def arrays_of(jaxpr):
    """The arrays that a computation makes, including those of inner computations."""
    for equation in jaxpr.eqns:
        yield from (value.aval for value in equation.outvars)
        for parameter in jax.tree.leaves(equation.params, is_leaf=is_computation):
            if is_computation(parameter):
                yield from arrays_of(getattr(parameter, "jaxpr", parameter))


def is_computation(value):
    return isinstance(value, jax.extend.core.ClosedJaxpr | jax.extend.core.Jaxpr)


@every_block
def test_tables_of_pairs_are_made_where_the_block_declares_them(block):
    """PSANet pools the pixels and so holds (n / 4)^2 entries; all other arrays are far smaller."""
    config = small_config(block, region_path="streaming")
    context = build_model(config, CLASSES).context

    def run(stages):
        return context.init_with_output(jax.random.key(0), stages)[0].features

    made = jax.make_jaxpr(run)(features((64, 64)))
    has_tables = block.pairs(config.model) is PixelPairs.TABLES
    assert (max(x.size for x in arrays_of(made.jaxpr)) >= (64 * 64 / 4) ** 2) == has_tables


@every_block
def test_compiled_equals_step_by_step(block):
    context = build_model(small_config(block), CLASSES).context
    stages = features((5, 7))
    variables = random_variables(context, stages)
    eager, compiled = context.apply(variables, stages), jax.jit(context.apply)(variables, stages)
    assert compiled.features.shape == (1, 5, 7, 8)
    for ours, other in zip(jax.tree.leaves(compiled), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-4)


@every_block
def test_one_feature_pixel_in_bfloat16(block):
    context = build_model(small_config(block, dtype="bfloat16"), CLASSES).context
    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm promotes
        output, _ = jax.jit(context.init_with_output)(jax.random.key(0), features((1, 1)))
    assert (output.features.shape, output.features.dtype) == ((1, 1, 1, 8), jnp.bfloat16)
    scores = [x for x in (output.coarse, output.boundary) if x is not None]
    assert all(x.dtype == jnp.float32 for x in scores)
    assert all(np.isfinite(x.astype(jnp.float32)).all() for x in [output.features, *scores])


@every_block
def test_gradients_are_finite_and_reach_the_features(block):
    context = build_model(small_config(block), CLASSES).context
    stages = features((5, 7))
    variables = random_variables(context, stages)

    def loss(params, stages):
        output, _ = context.apply(
            variables | {"params": params},
            stages,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats"],
        )
        return jnp.sum(nn.log_softmax(output.features)[..., 0])

    gradients, by_stage = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables["params"], stages)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, by_stage)))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert np.any(by_stage["layer4"])


@every_block
def test_aspp_rates_are_taken_or_refused_as_declared(block):
    config = small_config(block, stages=1)
    config.model.aspp_rates = (2,)
    if block.has_aspp:
        assert (
            "aspp"
            in jax.eval_shape(
                build_model(config, CLASSES).init, jax.random.key(0), images(1, 9, 9)
            )["params"]["context"]
        )
    else:
        with pytest.raises(UserError, match="has no ASPP"):
            build_model(config, CLASSES)


@every_block
def test_the_fewest_channels_are_those_that_the_block_declares(block):
    fewest = build_model(small_config(block, stages=1, channels=block.min_channels), CLASSES)
    jax.eval_shape(fewest.init, jax.random.key(0), images(1, 9, 9))
    if block.min_channels > 1:
        with pytest.raises(UserError, match=f"needs at least {block.min_channels} channels"):
            build_model(small_config(block, channels=block.min_channels - 1), CLASSES)
