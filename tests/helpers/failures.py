"""The message of a failing check of `ranet_jax.testing`, and an operation that passes them all."""

import jax.numpy as jnp
import pytest


def fails(check, *arguments, **settings):
    """The one-sentence message that a check fails with; it names the check."""
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **settings)
    sentence = str(caught.value)
    assert sentence.startswith(f"{check.__name__}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def softmax(logits):
    """Softmax over the last axis."""
    powers = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    return powers / jnp.sum(powers, axis=-1, keepdims=True)
