"""Criss-cross attention against loops over pixels, and its block against PyTorch's functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import random_variables, softmax
from helpers.torch_layers import channels_first, channels_last, conv, conv_bn_relu, tensor
from ranet_jax.models.context.ccnet import CCContext, criss_cross


def expected_attention(query, key, value):
    """Each pixel attends to a list of the pixels in its row and its column."""
    q, k, v = (np.asarray(x, np.float64) for x in (query, key, value))
    height, width, _ = q.shape
    gathered = np.zeros_like(v)
    for y in range(height):
        for x in range(width):
            seen = {(y, i) for i in range(width)} | {(j, x) for j in range(height)}
            assert len(seen) == height + width - 1
            weights = softmax(np.array([q[y, x] @ k[place] for place in seen]))
            gathered[y, x] = sum(w * v[place] for w, place in zip(weights, seen, strict=True))
    return gathered


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (6, 2)])
def test_attention_equals_numpy(shape):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=(*shape, n)), jnp.float32) for n in (3, 3, 4)]
    found = jax.jit(criss_cross)(*arrays)
    np.testing.assert_allclose(found, expected_attention(*arrays), atol=1e-6)


@pytest.mark.slow
def test_gradients_are_finite():
    arrays = [jnp.ones((3, 4, 2)) * factor for factor in (100.0, 100.0, 1.0)]
    gradients = jax.grad(lambda *x: jnp.sum(criss_cross(*x) ** 2), argnums=(0, 1, 2))(*arrays)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_context_equals_pytorch():
    module = CCContext("layer4", 16)
    values = np.random.default_rng(1).normal(size=(2, 4, 5, 6))
    inputs = {"layer4": jnp.asarray(values, jnp.float32)}
    variables = random_variables(module, inputs)
    params = variables["params"]
    assert params["query"]["kernel"].shape == (1, 1, 16, 2)
    output = jax.jit(module.apply)(variables, inputs)

    stage = channels_first(inputs["layer4"])
    x = conv_bn_relu(stage, variables, "reduce")
    for _ in range(2):
        embedded = (channels_last(conv(x, params[name])) for name in ("query", "key", "value"))
        gathered = [expected_attention(*image) for image in zip(*embedded, strict=True)]
        x = x + tensor(params["gamma"]) * channels_first(np.stack(gathered))
    x = conv_bn_relu(x, variables, "refine")
    expected = channels_last(conv_bn_relu(torch.cat([stage, x], dim=1), variables, "fuse"))
    np.testing.assert_allclose(output.features, expected, rtol=1e-4, atol=1e-4)
