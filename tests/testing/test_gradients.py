"""Gradients: wrong ones, and those that are not finite, are named in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.failures import fails, softmax
from ranet_jax.testing import check_finite, check_gradients, inputs

LOGITS = inputs.normal(0, (2, 3))


@jax.custom_jvp
def half_a_gradient(x):
    return x**2


half_a_gradient.defjvp(lambda p, t: (half_a_gradient(*p), p[0] * t[0]))


def test_right_gradients_pass_with_and_without_a_reference():
    check_gradients(softmax, LOGITS)
    check_gradients(half_a_gradient, 0 * LOGITS)
    check_gradients(jnp.tanh, LOGITS, reference=np.tanh)


def test_a_wrong_gradient_is_found_with_and_without_a_reference():
    sentence = fails(check_gradients, half_a_gradient, LOGITS)
    assert "the gradient with respect to argument 0 (x) at [" in sentence
    assert "is expected from finite differences (tolerance" in sentence
    sentence = fails(check_gradients, half_a_gradient, LOGITS, reference=lambda x: x**2)
    assert "is expected from finite differences of the reference" in sentence


def test_a_gradient_that_is_stopped_is_found():
    def stopped(a, b):
        return a * jax.lax.stop_gradient(b)

    assert "argument 1 (b)" in fails(check_gradients, stopped, LOGITS, LOGITS + 1)
    check_gradients(stopped, LOGITS, LOGITS + 1, argnums=[0])


def test_gradients_of_another_function_s_values_are_found():
    fails(check_gradients, jnp.sin, LOGITS, reference=np.tanh)


def test_errors_do_not_cancel_between_results():
    """Plain sums of a softmax are 1, whatever the logits: their gradient is 0, right or wrong."""

    @jax.custom_jvp
    def flat(x):
        return softmax(x)

    flat.defjvp(lambda p, t: (flat(*p), jnp.zeros_like(t[0])))
    fails(check_gradients, flat, LOGITS)


def test_trees_and_integers_among_arguments_and_results():
    def operation(tree, index, scale):
        return {"rows": scale * tree["a"][index], "index": index, "sum": jnp.sum(tree["b"])}

    tree = {"a": LOGITS, "b": LOGITS[0]}
    check_gradients(operation, tree, np.array([1, 0, 1]), 2.0)

    def wrong(tree, index, scale):
        return operation(tree | {"b": jax.lax.stop_gradient(tree["b"])}, index, scale)

    sentence = fails(check_gradients, wrong, tree, np.array([1, 0, 1]), 2.0)
    assert "argument 0 (tree)['b']" in sentence


def test_an_operation_without_float64_needs_a_reference():
    def single(x):
        return jnp.tanh(x.astype(jnp.float32))

    with pytest.raises(ValueError, match="returns float32 for float64"):
        check_gradients(single, LOGITS)
    check_gradients(single, LOGITS, reference=np.tanh)


def test_finite_results_and_gradients_pass():
    check_finite(softmax, LOGITS)


def test_overflow_is_found():
    def naive(logits):
        powers = jnp.exp(logits)
        return powers / jnp.sum(powers, axis=-1, keepdims=True)

    check_finite(naive, LOGITS, scales=(1.0,))
    sentence = fails(check_finite, naive, LOGITS)
    assert "with arguments x 1000 at [" in sentence
    assert "is nan, but must be finite" in sentence


def test_a_gradient_that_is_not_finite_where_the_value_is_is_found():
    def norm(x):
        return jnp.sqrt(jnp.sum(x**2))

    sentence = fails(check_finite, norm, LOGITS)
    assert (
        "the gradient with respect to argument 0 (x) with arguments x 0 at [0, 0] is nan"
        in sentence
    )


def test_arguments_that_are_not_scaled_stay():
    check_finite(lambda x, p: x * jnp.log(p), LOGITS, np.full((2, 3), 0.5, "f"), argnums=[0])
    fails(check_finite, lambda x, p: x * jnp.log(p), LOGITS, np.full((2, 3), 0.5, "f"))
