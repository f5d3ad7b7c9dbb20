"""Masks: a result that a masked place still affects is named in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.failures import fails, softmax
from ranet_jax.ops.interaction import masked_softmax
from ranet_jax.testing import check_masking, inputs

LOGITS = inputs.normal(0, (5,))
MASK = np.array([True, False, True, True, False])
QUERIES, KEYS = inputs.normal(1, (2, 3)), inputs.normal(2, (5, 3))


def attend(queries, keys, mask):
    """Each query's weighted sum of the keys, 0 if the mask hides them all."""
    weights = masked_softmax(queries @ keys.T, mask[None, :])
    return weights @ keys


@pytest.mark.slow
def test_masks_that_delete_pass():
    check_masking(masked_softmax, LOGITS, MASK, out_axes=0)
    check_masking(attend, QUERIES, KEYS, MASK, in_axes=[None, 0, 0])
    check_masking(
        lambda mask, keys: attend(QUERIES, keys, mask), MASK, KEYS, mask_argnum=0, in_axes=0
    )


def test_the_softmax_of_the_docstring():
    logits, mask = jnp.array([1.0, 3.0, 2.0]), jnp.array([True, False, True])
    np.testing.assert_allclose(masked_softmax(logits, mask), [0.27, 0, 0.73], atol=5e-3)


def test_a_gradient_that_is_nan_in_masked_places_is_found():
    @jax.custom_jvp
    def spoilt(x, mask):
        return jnp.sum(jnp.where(mask, x, 0))

    spoilt.defjvp(lambda p, t: (spoilt(*p), jnp.sum(t[0] * jnp.where(p[1], 1, jnp.nan))))
    sentence = fails(check_masking, spoilt, LOGITS, MASK)
    assert "is nan, but 0 is expected from a place without influence" in sentence


def test_a_mask_that_is_not_used_is_found():
    sentence = fails(check_masking, lambda x, mask: softmax(x), LOGITS, MASK, out_axes=0)
    assert "the result at [" in sentence
    assert "is expected from the unmasked places alone" in sentence


def test_nan_for_an_empty_mask_is_found():
    def naive(x, mask):
        powers = jnp.where(mask, jnp.exp(x - jnp.max(x)), 0)
        return powers / jnp.sum(powers)

    sentence = fails(check_masking, naive, LOGITS, MASK, out_axes=0)
    assert "the result with other values in masked places" in sentence

    def better(x, mask):
        powers = jnp.where(mask, jnp.exp(jnp.where(mask, x, 0)), 0)
        return powers / jnp.sum(powers)

    sentence = fails(check_masking, better, LOGITS, MASK, out_axes=0)
    assert "the result for an empty mask at [0] is nan" in sentence


def test_a_gradient_that_is_nan_for_an_empty_mask_is_found():
    def hidden(x, mask):
        kept = x * mask.astype(x.dtype)
        norm = jnp.sqrt(jnp.sum(kept**2))
        return jnp.where(norm > 0, kept / norm, 0)

    sentence = fails(check_masking, hidden, LOGITS, MASK, out_axes=0)
    assert "the gradient with respect to argument 0 (x) for an empty mask" in sentence


def test_a_gradient_that_reaches_masked_places_is_found():
    @jax.custom_jvp
    def leaks(x, mask):
        return jnp.sum(jnp.where(mask, x, 0))

    leaks.defjvp(lambda p, t: (leaks(*p), jnp.sum(t[0])))
    sentence = fails(check_masking, leaks, LOGITS, MASK)
    assert "the gradient with respect to masked places of argument 0 (x) at [0]" in sentence


@pytest.mark.parametrize("mask", [np.ones(5, bool), np.zeros(5, bool), np.ones((5, 1), bool)])
def test_masks_that_show_nothing_are_refused(mask):
    with pytest.raises(ValueError, match="some of them true and some false"):
        check_masking(masked_softmax, LOGITS, mask)
    with pytest.raises(ValueError, match="must be bools"):
        check_masking(masked_softmax, LOGITS, MASK.astype(int))
