"""The whole battery of checks, on an operation that passes and on faults that each one finds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.failures import softmax
from ranet_jax.testing import check_operation, inputs

EXAMPLES = [(inputs.normal(seed, (2, 3)),) for seed in range(2)]


def exact_softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


@jax.custom_jvp
def wrong_gradient(x):
    return softmax(x)


wrong_gradient.defjvp(lambda p, t: (wrong_gradient(*p), 2 * t[0]))


@jax.custom_batching.custom_vmap
def leaks(x):
    return softmax(x)


@leaks.def_vmap
def _(axis_size, in_batched, x):
    return softmax(jnp.broadcast_to(jnp.mean(x, axis=0), x.shape)), True


WRONG = {
    "check_value": lambda x: softmax(x) + 1,
    "check_gradients": wrong_gradient,
    "check_finite": lambda x: softmax(x) + 0 * jnp.sqrt(x[0, 0] - x[0, 0]),
    "check_dtypes": lambda x: softmax(x.astype(jnp.float32)),
    "check_jit": lambda x: softmax(x) if x[0, 0] > -9 else x,
    "check_vmap": leaks,
}


@pytest.mark.slow
def test_a_right_operation_passes():
    check_operation(softmax, EXAMPLES, exact_softmax)
    check_operation(softmax, [*EXAMPLES, (inputs.normal(2, (1, 4)),)])


@pytest.mark.parametrize("check", WRONG)
def test_each_check_is_run(check):
    with pytest.raises((AssertionError, jax.errors.TracerBoolConversionError)) as caught:
        check_operation(WRONG[check], EXAMPLES, exact_softmax)
    assert str(caught.value).startswith(f"{check}: ")


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="at least one tuple of arguments"):
        check_operation(functools.partial(softmax), [])
