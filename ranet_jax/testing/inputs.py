"""Typical inputs of attention, drawn from a seed, as NumPy arrays: float32, int32 and bools.

Boundary maps `[h, w]` and distributions `[h, w, c]` of one image come in five kinds, each a
different test case: `smooth_maps`, `piecewise_maps`, `checkerboard_maps`, `uniform_maps` and
`degenerate_maps`. `MAPS` lists them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Maps(NamedTuple):
    """The boundary map of one image, and the category distribution of each of its pixels."""

    boundary: Float[np.ndarray, "h w"]
    probabilities: Float[np.ndarray, "h w c"]


def normal(seed: int, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Normal numbers of mean 0 and standard deviation 1, like features."""
    return _rng(seed).normal(size=shape).astype(np.float32)


def unit(seed: int, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Uniform numbers in [0, 1), like scores."""
    return _rng(seed).uniform(size=shape).astype(np.float32)


def distributions(
    seed: int, shape: tuple[int, ...], categories: int, sharpness: float = 2.0
) -> Float[np.ndarray, "... c"]:
    """Distributions over the categories: the softmax of normal numbers times the sharpness.

    With sharpness 0.1 they are nearly uniform; with 30 nearly all mass is on one category.
    """
    logits = sharpness * _rng(seed).normal(size=(*shape, categories))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def masks(seed: int, rows: int, places: int, share: float = 0.5) -> Bool[np.ndarray, "rows places"]:
    """Masks in which about a `share` of the places count; of several rows, the first is empty."""
    mask = _rng(seed).random((rows, places)) < share
    if rows > 1:
        mask[0] = False
    return mask


def tied(seed: int, shape: tuple[int, ...], levels: int = 3) -> Float[np.ndarray, "..."]:
    """Scores in [0, 1] with few different values, evenly spaced, so that most are tied."""
    steps = max(levels - 1, 1)
    return (_rng(seed).integers(levels, size=shape) / steps).astype(np.float32)


def regions(seed: int, pixels: int, count: int) -> Int[np.ndarray, " n"]:
    """A label for each pixel, the smallest pixel of its region; at most `count` regions."""
    group = _rng(seed).integers(count, size=pixels)
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int32)


def smooth_maps(seed: int, shape: tuple[int, int], categories: int = 3) -> Maps:
    """Few boundaries and similar distributions, so that some pixels belong together."""
    rng = _rng(seed)
    boundary = rng.uniform(size=shape) ** 4
    powers = np.exp(rng.normal(scale=0.8, size=(*shape, categories)))
    return _maps(boundary, powers / powers.sum(axis=-1, keepdims=True))


def piecewise_maps(seed: int, shape: tuple[int, int], categories: int = 3) -> Maps:
    """Cells of 4 x 5 pixels with one distribution each, separated by boundaries of one value."""
    _, probabilities = smooth_maps(seed, shape, categories)
    y, x = (np.arange(size) for size in shape)
    boundary = np.where((y % 4 == 3)[:, None] | (x % 5 == 4)[None], 0.15, 0.0)
    return _maps(boundary, probabilities[np.ix_(y // 4 * 4, x // 5 * 5)])


def checkerboard_maps(seed: int, shape: tuple[int, int], categories: int = 3) -> Maps:
    """Pixels with probability 0.9 for the first and the second category in turn.

    There must be at least two categories. The seed has no effect.
    """
    odd = np.indices(shape).sum(axis=0) % 2 == 1
    probabilities = np.full((*shape, categories), 0.1 / (categories - 1))
    probabilities[odd, 0] = 0.9
    probabilities[~odd, 1] = 0.9
    return _maps(np.where(odd, 0.1, 0.0), probabilities)


def uniform_maps(seed: int, shape: tuple[int, int], categories: int = 3) -> Maps:
    """The same values everywhere, so that all pixels tie. The seed has no effect."""
    return _maps(np.full(shape, 0.05), np.full((*shape, categories), 1 / categories))


def degenerate_maps(seed: int, shape: tuple[int, int], categories: int = 3) -> Maps:
    """Boundaries of 0 or 1, and pixels with probability 1 for one of the first two categories."""
    rng = _rng(seed)
    boundary = rng.integers(2, size=shape)
    return _maps(boundary, np.eye(categories)[rng.integers(min(2, categories), size=shape)])


MAPS = (smooth_maps, piecewise_maps, checkerboard_maps, uniform_maps, degenerate_maps)


def _maps(boundary: np.ndarray, probabilities: np.ndarray) -> Maps:
    return Maps(boundary.astype(np.float32), probabilities.astype(np.float32))


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
