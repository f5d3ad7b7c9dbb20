"""Operations on score maps, in NumPy."""

import itertools

import numpy as np


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def interpolate(grid, shape, align_corners=True):
    """Bilinear interpolation of [h, w, c], point by point in float64."""
    out = np.zeros((*shape, grid.shape[2]))
    for y, x in itertools.product(*map(range, shape)):
        place = []
        for index, size, cells in zip((y, x), shape, grid.shape[:2], strict=True):
            if align_corners:
                position = index * (cells - 1) / (size - 1) if size > 1 else 0.0
            else:
                position = min(max((index + 0.5) * cells / size - 0.5, 0.0), cells - 1.0)
            low = min(int(position), cells - 1)
            place.append((low, min(low + 1, cells - 1), position - low))
        (y0, y1, v), (x0, x1, u) = place
        out[y, x] = (1 - v) * ((1 - u) * grid[y0, x0] + u * grid[y0, x1]) + v * (
            (1 - u) * grid[y1, x0] + u * grid[y1, x1]
        )
    return out
