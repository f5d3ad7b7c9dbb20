"""Schedule and optimiser against hand-worked numbers and a NumPy loop of PyTorch's SGD."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.training.optimizer import build_optimizer, parameter_groups, polynomial_decay

PARAMS = {
    "backbone": {"conv": {"kernel": np.full((2, 2), 0.5, np.float32)}},
    "head": {
        "kernel": np.full((2, 2), -1.0, np.float32),
        "bias": np.full((2,), 2.0, np.float32),
    },
}


def as_jax(tree):
    return {
        "backbone": {"conv": {"kernel": jnp.asarray(tree["backbone"]["conv"]["kernel"])}},
        "head": {k: jnp.asarray(v) for k, v in tree["head"].items()},
    }


def settings(**fields):
    optimizer = default_config().optimizer
    optimizer.update(fields)
    return optimizer


@pytest.mark.parametrize("step, value", [(0, 0.1), (25, 0.075), (50, 0.05), (100, 0.0)])
def test_linear_decay(step, value):
    np.testing.assert_allclose(polynomial_decay(0.1, 100)(step), value, atol=1e-8)


def test_poly_decay_with_warm_up():
    schedule = polynomial_decay(0.1, 110, power=0.9, warmup_steps=10)
    np.testing.assert_allclose(schedule(0), 0.0)
    np.testing.assert_allclose(schedule(5), 0.05, rtol=1e-6)
    np.testing.assert_allclose(schedule(10), 0.1, rtol=1e-6)
    np.testing.assert_allclose(schedule(60), 0.1 * 0.5**0.9, rtol=1e-6)
    np.testing.assert_allclose(schedule(110), 0.0, atol=1e-8)


def test_updates_equal_a_numpy_sgd():
    """PyTorch's rule: g += wd * p; v = m * v + g; p -= lr * factor * v; no decay on biases."""
    config = settings(
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=0.01,
        lr_multipliers=(("^head", 10.0),),
    )
    params = as_jax(PARAMS)
    optimizer, _ = build_optimizer(config, 10, params)
    state = optimizer.init(params)
    rng = np.random.default_rng(0)
    expected = {
        "backbone/conv/kernel": np.float64(PARAMS["backbone"]["conv"]["kernel"]),
        "head/kernel": np.float64(PARAMS["head"]["kernel"]),
        "head/bias": np.float64(PARAMS["head"]["bias"]),
    }
    velocity = {path: np.zeros_like(value) for path, value in expected.items()}
    for step in range(4):
        gradients = {p: rng.normal(size=v.shape).astype(np.float32) for p, v in expected.items()}
        tree = {
            "backbone": {"conv": {"kernel": gradients["backbone/conv/kernel"]}},
            "head": {"kernel": gradients["head/kernel"], "bias": gradients["head/bias"]},
        }
        updates, state = optimizer.update(as_jax(tree), state, params)
        params = optax.apply_updates(params, updates)
        for path, gradient in gradients.items():
            decay = 0.0 if path.endswith("bias") else 0.01
            factor = 10.0 if path.startswith("head") else 1.0
            velocity[path] = 0.9 * velocity[path] + gradient + decay * expected[path]
            expected[path] = expected[path] - 0.1 * (1 - step / 10) * factor * velocity[path]
    np.testing.assert_allclose(
        params["backbone"]["conv"]["kernel"], expected["backbone/conv/kernel"], rtol=1e-5
    )
    np.testing.assert_allclose(params["head"]["kernel"], expected["head/kernel"], rtol=1e-5)
    np.testing.assert_allclose(params["head"]["bias"], expected["head/bias"], rtol=1e-5)


def test_clipping_bounds_the_global_norm():
    config = settings(learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.5)
    params = as_jax(PARAMS)
    optimizer, _ = build_optimizer(config, 10, params)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-6)


def test_a_factor_of_zero_freezes():
    config = settings(learning_rate=0.1, lr_multipliers=(("^head", 0.0),))
    params = as_jax(PARAMS)
    optimizer, _ = build_optimizer(config, 10, params)
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(params["head"][name], PARAMS["head"][name])
    moved = params["backbone"]["conv"]["kernel"] != PARAMS["backbone"]["conv"]["kernel"]
    assert moved.all()


def test_groups_take_the_first_pattern():
    groups = parameter_groups(PARAMS, ("bias$", "^head"))
    assert groups == {
        "backbone": {"conv": {"kernel": "rest"}},
        "head": {"kernel": "^head", "bias": "bias$"},
    }


def test_errors():
    with pytest.raises(UserError, match="no parameter"):
        parameter_groups(PARAMS, ("^neck",))
    with pytest.raises(UserError, match="not a regular expression"):
        parameter_groups(PARAMS, ("(",))
    with pytest.raises(UserError, match="warmup_steps is 10"):
        polynomial_decay(0.1, 10, warmup_steps=10)
