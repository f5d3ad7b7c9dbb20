"""Pictures that show whether regions divide an image, and where boundaries are."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt8
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from ranet_jax.inference.colors import Color, Palette, cielab, nearest, rgb_lattice
from ranet_jax.inference.prediction import MIN_REGION_PIXELS, RegionMap
from ranet_jax.ops import nearest_grid

RGB = UInt8[np.ndarray, "H W 3"]
Picture = UInt8[np.ndarray, "_ _ 3"]  # of any size

VOID: Color = (0, 0, 0)  # of the ignore label and of every label without a colour
REPRESENTATIVE: Color = (60, 255, 60)
RIM: Color = (0, 40, 0)
CONTOUR: Color = (255, 255, 255)

DARKEST = 0.6  # share of a tint's brightness where the photograph is black
DIMMED = 0.45  # brightness of the photograph where there is no tint
# Largest distance in feature pixels of neighbouring regions, which cells of a boundary separate.
NEIGHBOUR_REACH = 3
SPARE_COLORS = 16  # so that the last regions have a choice too

BOUNDARY_NOTE = "probability of a boundary, from black (0) to white (1)"
REGION_NOTE = (
    "each in its own colour, which does not stand for a class; sizes are in pixels of the feature"
    " map, the grid on which the network computes; grey: regions that have fewer than"
    f" {MIN_REGION_PIXELS} of its pixels or exchange no context; green dots: representative"
    " pixels"
)


def region_caption(regions: RegionMap, purity: float = math.nan) -> str:
    """Number of regions, share of the largest and, unless it is NaN, the purity.

    Example: "14 regions of 8 or more feature-map pixels, largest 31 % of the image, purity 0.94".
    """
    sizes = _region_sizes(regions)
    count = np.count_nonzero(sizes >= MIN_REGION_PIXELS)
    words = [
        f"{count} {'region' if count == 1 else 'regions'} of {MIN_REGION_PIXELS} or more"
        " feature-map pixels",
        f"largest {100 * sizes.max() / sizes.sum():.0f} % of the image",
    ]
    if not math.isnan(purity):
        words.append(f"purity {purity:.2f}")
    return ", ".join(words)


def boundary_picture(boundary: Float[np.ndarray, "H W"]) -> RGB:
    """Probabilities of a boundary as greys, from 0 (black) to 1 (white)."""
    grey = np.rint(255 * np.clip(boundary, 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def region_picture(
    image: RGB, regions: RegionMap, size: tuple[int, int], palette: Palette = ()
) -> Picture:
    """The regions of an image and their representative pixels (green dots), as in Figure 5.

    Regions of `MIN_REGION_PIXELS` or more have white contours. Those of them that have a slot
    are tinted over the grey photograph in colours unlike those of the palette, and their
    representatives are dots at the centres of their feature pixels; everything else is dimmed.

    Args:
      image: the photograph.
      regions: regions on its feature grid.
      size: (height, width) of the picture.
      palette: colours of the classes.
    """
    height, width = size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    grey = np.asarray(ImageOps.equalize(resized.convert("L")))[..., None] / 255
    labels = regions.labels[nearest_grid(size, regions.labels.shape, regions.align_corners)]
    is_large = _region_sizes(regions) >= MIN_REGION_PIXELS

    colors = region_colors(regions, palette)
    color_of_root = np.zeros((regions.labels.size, 3))
    is_tinted = np.zeros(regions.labels.size, bool)
    for root, color in colors.items():
        color_of_root[root] = color
        is_tinted[root] = True
    tinted = color_of_root[labels] * (DARKEST + (1 - DARKEST) * grey)
    picture = np.where(is_tinted[labels][..., None], tinted, 255 * DIMMED * grey)
    picture[contours(labels, is_large[labels])] = CONTOUR

    drawing = Image.fromarray(np.rint(picture).astype(np.uint8))
    _draw_dots(drawing, regions, is_tinted)
    return np.asarray(drawing)


def _region_sizes(regions: RegionMap) -> Int[np.ndarray, " n"]:
    """The number of feature pixels of each root's region; 0 for pixels that are not roots."""
    return np.bincount(regions.labels.ravel(), minlength=regions.labels.size)


def region_colors(regions: RegionMap, palette: Palette = ()) -> dict[int, Color]:
    """Colours of the regions that have a slot and `MIN_REGION_PIXELS` or more, by their roots.

    They are `distinct_colors`, assigned so that neighbours differ most: in the order of the slots,
    each region takes the colour farthest from those taken, which count as twice as far if their
    regions are not neighbours.
    """
    sizes = _region_sizes(regions)
    roots = [
        int(root)
        for root in regions.representatives.roots
        if root >= 0 and sizes[root] >= MIN_REGION_PIXELS
    ]
    left = distinct_colors(len(roots) + SPARE_COLORS, palette)
    colors: dict[int, Color] = {}
    for root in roots:
        beside = [colors[other] for other in _neighbours(regions.labels, root) if other in colors]
        distance = np.minimum(nearest(left, beside), 2 * nearest(left, list(colors.values())))
        best = int(distance.argmax())
        red, green, blue = left[best].tolist()
        colors[root] = (red, green, blue)
        left = np.delete(left, best, axis=0)
    return colors


def _neighbours(labels: Int[np.ndarray, "h w"], root: int) -> list[int]:
    """Roots of the regions within `NEIGHBOUR_REACH` feature pixels of a region, and its own."""
    region = Image.fromarray((labels == root).astype(np.uint8))
    near = np.asarray(region.filter(ImageFilter.MaxFilter(2 * NEIGHBOUR_REACH + 1)))
    return [int(other) for other in np.unique(labels[near > 0])]


def distinct_colors(count: int, palette: Palette = ()) -> UInt8[np.ndarray, "n 3"]:
    """Bright colours that differ from a palette's and from each other, the same every time.

    Each colour is the one farthest from those before it and, both at full brightness and as dark as
    a photograph makes it, from the palette, black, white and the green of representative pixels.
    Distances are Euclidean in CIELAB. Greys and greens are not candidates.
    """
    candidates = _candidates()
    avoided = [*palette, VOID, CONTOUR, REPRESENTATIVE]
    distances = [nearest(shade * candidates, avoided) for shade in (DARKEST, 0.8, 1.0)]
    distance = np.min(distances, axis=0)
    chosen = np.zeros((count, 3), np.uint8)
    for index in range(count):
        chosen[index] = candidates[distance.argmax()]
        distance = np.minimum(distance, nearest(candidates, chosen[index : index + 1]))
    return chosen


def _candidates() -> UInt8[np.ndarray, "n 3"]:
    """Bright colours on a lattice of sRGB, without greys and greens close to that of the dots."""
    lattice = rgb_lattice()
    lightness, green_red, blue_yellow = cielab(lattice).T
    bright = (lightness >= 50) & (lightness <= 92) & (np.hypot(green_red, blue_yellow) >= 35)
    return lattice[bright & (nearest(lattice, [REPRESENTATIVE]) >= 60)]


def contours(
    labels: Integer[np.ndarray, "H W"], outlined: Bool[np.ndarray, "H W"]
) -> Bool[np.ndarray, "H W"]:
    """Mark where outlined pixels meet another region: a line one pixel wide.

    Of two neighbours with different labels, the left or upper one is marked if either of them is
    outlined:

        labels     outlined    contours
        5  5  0    x  x  .     .  x  .
        5  5  1    x  x  .     x  x  .
        2  3  4    .  .  .     .  .  .
    """
    marked = np.zeros(labels.shape, bool)
    marked[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & (outlined[:, :-1] | outlined[:, 1:])
    marked[:-1] |= (labels[:-1] != labels[1:]) & (outlined[:-1] | outlined[1:])
    return marked


def feature_positions(
    indices: Int[np.ndarray, " n"],
    grid: tuple[int, int],
    shape: tuple[int, int],
    align_corners: bool = True,
) -> Float[np.ndarray, "n 2"]:
    """Image coordinates (y, x) of the centres of feature pixels.

    On a 3 x 3 grid over 9 x 9 pixels, feature pixels 0, 4 and 8 lie at (0, 0), (4, 4), (8, 8);
    without aligned corners at (1, 1), (4, 4), (7, 7).
    """
    cells = np.stack(np.divmod(indices, grid[1]), axis=-1)
    if not align_corners:
        return (cells + 0.5) * (np.array(shape) / np.array(grid)) - 0.5
    steps = [(size - 1) / max(count - 1, 1) for size, count in zip(shape, grid, strict=True)]
    return cells * np.array(steps)


def _draw_dots(drawing: Image.Image, regions: RegionMap, is_tinted: Bool[np.ndarray, " n"]) -> None:
    """Draw the representatives of the tinted regions, half a feature pixel wide."""
    shape, grid = (drawing.height, drawing.width), regions.labels.shape
    cell = min(size / count for size, count in zip(shape, grid, strict=True))
    radius = min(max(0.22 * cell, 1.0), 6.0)
    slots = regions.representatives
    shown = np.asarray(slots.valid) & is_tinted[np.asarray(slots.roots)][:, None]
    pen = ImageDraw.Draw(drawing)
    indices = np.asarray(slots.indices)[shown]
    for y, x in feature_positions(indices, grid, shape, regions.align_corners):
        for reach, color in ((1.5 * radius, RIM), (radius, REPRESENTATIVE)):
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)
