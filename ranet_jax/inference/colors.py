"""Colours that people can tell apart."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

Color = tuple[int, int, int]
Palette = Sequence[Color]

# Distance in CIELAB below which two classes of a picture look alike; 2.3 is just noticeable.
LEAST_DISTANCE = 6.0


def distinguishable(palette: Palette) -> tuple[Color, ...]:
    """The palette, with another colour for each class that looks like one before it.

    Colours closer than `LEAST_DISTANCE` look alike. The new colour is the one of a lattice of sRGB
    that is farthest from all others of the palette.
    """
    return _distinguishable(
        tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
    )


@functools.lru_cache(maxsize=8)  # it takes 0.2 s with 171 classes
def _distinguishable(palette: tuple[Color, ...]) -> tuple[Color, ...]:
    colors = np.asarray(palette, np.uint8).reshape(-1, 3)
    alike = np.zeros(len(colors), bool)
    for number, color in enumerate(colors):
        before = colors[:number][~alike[:number]]
        alike[number] = nearest(color[None], before)[0] < LEAST_DISTANCE
    if alike.any():
        candidates = rgb_lattice()
        distance = nearest(candidates, colors[~alike])
        for number in np.flatnonzero(alike).tolist():
            colors[number] = candidates[distance.argmax()]
            distance = np.minimum(distance, nearest(candidates, colors[number][None]))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colors)


def rgb_lattice() -> UInt8[np.ndarray, "n 3"]:
    """Colours on a lattice of sRGB, sixteen levels a channel."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)


def nearest(
    colors: UInt8[np.ndarray, "n 3"] | Float[np.ndarray, "n 3"],
    others: Palette | UInt8[np.ndarray, "m 3"],
) -> Float[np.ndarray, " n"]:
    """Distance of each colour to the closest of the others in CIELAB; infinite if there is none."""
    lab, other_lab = cielab(colors), cielab(np.asarray(others, np.float64).reshape(-1, 3))
    distances = np.linalg.norm(lab[:, None] - other_lab[None], axis=-1)
    return distances.min(axis=1, initial=np.inf)


def cielab(
    rgb: UInt8[np.ndarray, "n 3"] | Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, "n 3"]:
    """CIELAB (white D65) of sRGB colours of 0..255: L, a (green to red) and b (blue to yellow)."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
