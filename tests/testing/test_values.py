"""Values and dtypes: what is right passes, what is wrong is named in one sentence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.failures import fails, softmax
from ranet_jax.testing import check_dtypes, check_value, inputs

LOGITS = inputs.normal(0, (4, 3))


def exact_softmax(logits):
    assert logits.dtype == np.float64
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def test_equal_values_pass():
    check_value(softmax, exact_softmax, LOGITS)
    check_value(jax.jit(softmax), exact_softmax, jnp.asarray(LOGITS))


def test_the_sentence_names_check_place_values_and_tolerance():
    def wrong(x):
        return jnp.asarray(x).at[1, 2].set(0.25)

    def right(x):
        x[1, 2] = 0.5
        return x

    sentence = fails(check_value, wrong, right, LOGITS)
    assert sentence == (
        "check_value: the result at [1, 2] is 0.25, but 0.5 is expected from the reference"
        " (tolerance: atol 1e-06, rtol 1e-05)."
    )


def test_of_several_results_the_wrong_one_is_named():
    def results(x, excess=0):
        return {"chosen": jnp.argmax(x) + excess, "weights": x}

    check_value(results, results, LOGITS)
    sentence = fails(check_value, functools.partial(results, excess=1), results, LOGITS)
    assert sentence.startswith("check_value: the result['chosen'] is ")
    assert "tolerance: none" in sentence


def test_the_place_is_that_of_the_largest_difference():
    wrong = jnp.zeros((2, 3)).at[0, 1].set(0.25).at[1, 0].set(0.5)
    assert "at [1, 0] is 0.5" in fails(check_value, lambda: wrong, lambda: np.zeros((2, 3)))


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_what_is_not_finite_equals_itself_alone(spoilt):
    array, zero = np.array([0.0, spoilt]), np.zeros(2)
    check_value(lambda: array, lambda: array)
    fails(check_value, lambda: array, lambda: zero)
    fails(check_value, lambda: zero, lambda: array)


def test_shapes_and_numbers_of_results_must_agree():
    assert "has the shape (3,)" in fails(check_value, lambda: jnp.ones(3), lambda: np.ones((1, 3)))
    assert "has 2 arrays" in fails(check_value, lambda: (1, 2), lambda: (1,))


def test_a_result_without_entries_is_compared():
    check_value(lambda: jnp.zeros((0, 3)), lambda: np.zeros((0, 3)))


@pytest.mark.slow
def test_dtypes_are_kept():
    check_dtypes(softmax, LOGITS)


def test_an_operation_that_widens_is_found():
    sentence = fails(check_dtypes, lambda x: x.astype(jnp.float32), LOGITS)
    assert "the result for bfloat16 arguments has the dtype float32" in sentence


def test_an_operation_that_narrows_inside_is_found():
    def coarse(x):
        return softmax(x.astype(jnp.bfloat16)).astype(x.dtype)

    check_dtypes(coarse, LOGITS, dtypes=["bfloat16"])
    # Its results in float32 and float64 are equally coarse, so that only the exact value shows it.
    fails(check_value, coarse, exact_softmax, LOGITS)


def test_what_rounds_between_is_not_rounded_once():
    def rounds_between(x):
        return jnp.sum(jnp.exp(x), axis=-1)

    def rounds_once(x):
        return jnp.sum(jnp.exp(x.astype(jnp.float32)), axis=-1).astype(x.dtype)

    numbers = inputs.normal(1, (40, 8))
    check_dtypes(rounds_once, numbers, dtypes=["bfloat16"], rtol=0.0, atol=0.0)
    fails(check_dtypes, rounds_between, numbers, dtypes=["bfloat16"], rtol=0.0, atol=0.0)


def test_some_arguments_may_keep_their_dtype():
    def scored(features, score):
        assert score.dtype == jnp.float32
        return (features.astype(jnp.float32) * score[:, None]).astype(features.dtype)

    check_dtypes(scored, LOGITS, inputs.unit(1, (4,)), dtypes=["bfloat16"], argnums=[0])


def test_a_gradient_that_half_precision_overflows_is_found():
    @jax.custom_jvp
    def overflows(x):
        return x

    overflows.defjvp(lambda p, t: (overflows(*p), t[0] * jnp.asarray(3e38, t[0].dtype) * 9))
    assert "the gradient with respect to argument 0 (x) in bfloat16" in fails(
        check_dtypes, overflows, LOGITS
    )
