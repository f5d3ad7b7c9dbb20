"""Layers at inference in NumPy float64, and random variables for them."""

import jax
import jax.numpy as jnp
import numpy as np


def convolve(x, kernel, stride, dilation, pad):
    """Convolution of [h, w, c] by [k, k, c, m], zero padded."""
    size = kernel.shape[0]
    x = np.pad(np.asarray(x, np.float64), ((pad, pad), (pad, pad), (0, 0)))
    reach = (size - 1) * dilation
    rows = range(0, x.shape[0] - reach, stride)
    columns = range(0, x.shape[1] - reach, stride)
    out = np.zeros((len(rows), len(columns), kernel.shape[3]))
    for a, y in enumerate(rows):
        for b, z in enumerate(columns):
            patch = x[y : y + reach + 1 : dilation, z : z + reach + 1 : dilation]
            out[a, b] = np.einsum("ijc,ijcm->m", patch, np.asarray(kernel, np.float64))
    return out


def normalise(x, params, stats):
    """BatchNorm with its running statistics."""
    scale = np.asarray(params["scale"], np.float64) / np.sqrt(
        np.asarray(stats["var"], np.float64) + 1e-5
    )
    return (x - np.asarray(stats["mean"], np.float64)) * scale + np.asarray(params["bias"])


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def random_variables(module, *arguments, seed=0):
    """Random parameters and statistics; kernels keep the scale of their inputs."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("var", "scale"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        elif path[-1].key == "kernel":
            value = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            value = rng.normal(0, 0.3, leaf.shape)
        return jnp.asarray(value, jnp.float32)

    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    return jax.tree_util.tree_map_with_path(draw, shapes)
