"""Point-wise spatial attention against loops over pairs, and its block against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from helpers.numpy_layers import random_variables, softmax
from helpers.torch_layers import channels_first, channels_last, conv, conv_bn_relu, resize
from ranet_jax.models.context.psanet import PSAContext, collect, distribute, halved, pair_logits

pytestmark = pytest.mark.slow


def expected_logits(offsets, mask_size):
    """Logits by the definition of the mask's entries, 0 outside the mask."""
    height, width, _ = offsets.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    logits = np.zeros((len(places), len(places)))
    masks = offsets.reshape(height, width, *mask_size)
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            p, q = v - y + (mask_size[0] - 1) // 2, u - x + (mask_size[1] - 1) // 2
            if p in range(mask_size[0]) and q in range(mask_size[1]):
                logits[i, j] = masks[y, x, p, q]
    return logits


@pytest.mark.parametrize("mask_size", [(5, 5), (4, 4), (2, 7), (1, 2)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 3), (5, 2), (4, 6)])
def test_logits_of_pairs_equal_numpy(shape, mask_size):
    """Masks are larger and smaller than the maps, and have odd and even sides."""
    entries = mask_size[0] * mask_size[1]
    offsets = np.random.default_rng(0).normal(size=(*shape, entries)).astype(np.float32)
    found = pair_logits(jnp.asarray(offsets), mask_size)
    np.testing.assert_array_equal(found, expected_logits(offsets, mask_size).astype(np.float32))


def test_a_row_of_three_pixels_is_the_docstring_s():
    a, b, c, d, e, f, g, h, i = range(1, 10)
    offsets = np.array([[[a, b, c], [d, e, f], [g, h, i]]], np.float32)
    found = pair_logits(jnp.asarray(offsets), (1, 3))
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


@pytest.mark.parametrize(
    ("shape", "usual", "down"),
    [
        ((5, 7), ((3, 4), True), ((3, 4), True)),
        ((5, 6), ((3, 3), True), ((2, 3), False)),
        ((6, 8), ((3, 4), True), ((3, 4), False)),
        ((1, 1), ((1, 1), True), ((1, 1), True)),
        ((1, 2), ((1, 1), True), ((1, 1), False)),
    ],
)
def test_maps_are_halved(shape, usual, down):
    assert (halved(shape), halved(shape, down=True)) == (usual, down)


@pytest.mark.parametrize("shape", [(4, 5), (7, 7)])
def test_context_equals_pytorch(shape):
    """Maps of the size at which all pixels see each other, and of a larger one."""
    module = PSAContext("layer4", 6, mask_size=(5, 5))
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
            logits = expected_logits(maps, (5, 5))
            logits = logits if name == "collect" else logits.T
            weights = np.stack([softmax(row) for row in logits])
            gathered.append((weights @ image.reshape(-1, 6)).reshape(image.shape))
        branches.append(channels_first(np.stack(gathered)))
    context = resize(conv_bn_relu(torch.cat(branches, dim=1), variables, "project"), shape)
    expected = conv_bn_relu(torch.cat([stage, context], dim=1), variables, "fuse")
    np.testing.assert_allclose(output.features, channels_last(expected), rtol=1e-4, atol=1e-4)
