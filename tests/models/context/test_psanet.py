"""Point-wise spatial attention, one pair after another, and its block by PyTorch's functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import random_variables, softmax
from helpers.torch_layers import channels_first, channels_last, conv, conv_bn_relu, resize
from ranet_jax.models.context.psanet import PSAContext, collect, distribute, pair_logits


def expected_logits(offsets, reach):
    """From the definition of the entries, 0 beyond the reach."""
    height, width, _ = offsets.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    logits = np.zeros((len(places), len(places)))
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            dy, dx = v - y, u - x
            if abs(dy) < reach and abs(dx) < reach:
                logits[i, j] = offsets[y, x, (reach - 1 + dy) * (2 * reach - 1) + reach - 1 + dx]
    return logits


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 3), (5, 2), (4, 6)])
def test_logits_of_pairs_equal_numpy(shape):
    """Within a reach of 3, and beyond it."""
    offsets = np.random.default_rng(0).normal(size=(*shape, 25)).astype(np.float32)
    found = pair_logits(jnp.asarray(offsets), 3)
    np.testing.assert_array_equal(found, expected_logits(offsets, 3).astype(np.float32))


def test_a_row_of_three_pixels_is_the_docstring_s():
    a, b, c, d, e, f, g, h, i = range(1, 10)
    offsets = np.zeros((1, 3, 3, 3), np.float32)
    offsets[0, :, 1] = [[a, b, c], [d, e, f], [g, h, i]]
    found = pair_logits(jnp.asarray(offsets.reshape(1, 3, 9)), 2)
    np.testing.assert_array_equal(found, [[b, c, 0], [d, e, f], [0, g, h]])


def test_collection_and_distribution_equal_numpy():
    rng = np.random.default_rng(2)
    features, logits = rng.normal(size=(5, 3)), rng.normal(size=(5, 5))
    arguments = jnp.asarray(features, jnp.float32), jnp.asarray(logits, jnp.float32)
    for i in range(5):
        np.testing.assert_allclose(collect(*arguments)[i], softmax(logits[i]) @ features, rtol=1e-5)
        np.testing.assert_allclose(
            distribute(*arguments)[i], softmax(logits[:, i]) @ features, rtol=1e-5
        )


@pytest.mark.parametrize("shape", [(4, 5), (7, 7)])
def test_context_equals_pytorch(shape):
    """Of the reach's size and of a larger one."""
    module = PSAContext("layer4", 6, reach=3)
    values = np.random.default_rng(1).normal(size=(2, *shape, 5))
    inputs = {"layer4": jnp.asarray(values, jnp.float32)}
    variables = random_variables(module, inputs)
    output = jax.jit(module.apply)(variables, inputs)

    stage = channels_first(inputs["layer4"])
    half = tuple((size + 1) // 2 for size in shape)
    branches = []
    for name in ("collect", "distribute"):
        reduced = resize(conv_bn_relu(stage, variables, f"{name}_reduce"), half)
        hidden = conv_bn_relu(reduced, variables, f"{name}_attention")
        offsets = channels_last(conv(hidden, variables["params"][f"{name}_offsets"]))
        gathered = []
        for image, maps in zip(channels_last(reduced), offsets, strict=True):
            logits = expected_logits(maps, 3)
            logits = logits if name == "collect" else logits.T
            weights = np.stack([softmax(row) for row in logits])
            gathered.append((weights @ image.reshape(-1, 6)).reshape(image.shape))
        branches.append(channels_first(np.stack(gathered)))
    context = resize(conv_bn_relu(torch.cat(branches, dim=1), variables, "project"), shape)
    expected = conv_bn_relu(torch.cat([stage, context], dim=1), variables, "fuse")
    np.testing.assert_allclose(output.features, channels_last(expected), rtol=1e-4, atol=1e-4)
