"""Adaptive pooling against PyTorch's and a case by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ranet_jax import ops


@pytest.mark.parametrize("bins", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (6, 6), (13, 9)])
def test_it_pools_as_pytorch_does(shape, bins):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    tensor = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).double()
    expected = torch.nn.functional.adaptive_avg_pool2d(tensor, bins).numpy().transpose(0, 2, 3, 1)
    found = jax.jit(ops.adaptive_average_pool, static_argnums=1)(jnp.asarray(x), bins)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_cells_overlap_as_the_docstring_says():
    rising = jnp.arange(5.0)[None, :, None]
    np.testing.assert_allclose(ops.adaptive_average_pool(rising, 2)[:, :, 0], [[1, 3]] * 2)
    pair = jnp.array([0.0, 1.0])[None, :, None]
    np.testing.assert_allclose(ops.adaptive_average_pool(pair, 3)[0, :, 0], [0, 0.5, 1])


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="bins must be positive"):
        ops.adaptive_average_pool(jnp.zeros((2, 2, 1)), 0)
