"""jit, vmap and batches: what depends on them, or leaks, is named in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.failures import fails, softmax
from ranet_jax.testing import check_batch, check_jit, check_vmap, inputs

LOGITS = inputs.normal(0, (4, 3))


def test_what_does_not_depend_on_jit_passes():
    check_jit(softmax, LOGITS)


def test_a_result_without_an_array_is_found():
    assert "the result under jit holds no array" in fails(check_jit, lambda x: None, LOGITS)


def test_a_branch_that_depends_on_jit_is_found():
    def depends(x):
        return x if isinstance(x, jax.core.Tracer) else softmax(x)

    sentence = fails(check_jit, depends, LOGITS)
    assert "the result under jit at [" in sentence
    assert "is expected from the operation alone" in sentence


def test_a_branch_on_values_is_found():
    def branches(x):
        return softmax(x) if x.sum() > 0 else x

    assert "cannot be traced" in fails(check_jit, branches, LOGITS)


def test_a_shape_that_depends_on_values_is_found():
    assert "cannot be traced" in fails(check_jit, lambda x: x[x > 0], LOGITS)


def test_examples_of_a_batch_pass():
    check_vmap(softmax, LOGITS)
    check_vmap(lambda x, w: x * w, LOGITS, inputs.normal(1, (3,)), in_axes=[0, None])
    check_vmap(lambda x: {"a": x, "b": x[0]}, LOGITS, in_axes=1)


def test_a_rule_for_batches_that_leaks_is_found():
    @jax.custom_batching.custom_vmap
    def centred(x):
        return x - jnp.mean(x)

    @centred.def_vmap
    def rule(axis_size, in_batched, x):
        return x - jnp.mean(x), True

    assert "example 0 of the batch" in fails(check_vmap, centred, LOGITS)


def test_a_batch_whose_examples_are_alone_passes():
    check_batch(softmax, LOGITS)


def test_a_leak_between_examples_is_found():
    def leaks(x):
        return softmax(x.T).T

    sentence = fails(check_batch, leaks, LOGITS)
    assert "the result of example " in sentence
    assert "is expected from the example alone" in sentence


def test_one_example_shows_nothing():
    with pytest.raises(ValueError, match="examples, two or more, but have 1"):
        check_batch(softmax, LOGITS[:1])
    with pytest.raises(ValueError, match="but have 3 and 4"):
        check_vmap(jnp.add, LOGITS, np.ones((3, 3), "f"))
    with pytest.raises(ValueError, match="names 2 arguments, but there are 1"):
        check_vmap(softmax, LOGITS, in_axes=[0, None])
