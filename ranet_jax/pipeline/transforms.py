"""Changes to an image and its labels as pure functions of NumPy arrays.

Images are float32 RGB in 0..255, labels uint8 with 255 for pixels without a category.
"""

from collections.abc import Sequence

import numpy as np
import scipy.ndimage
from jaxtyping import Float32, UInt8

from ranet_jax.pipeline.metadata import IGNORE_LABEL

Image = Float32[np.ndarray, "h w 3"]
Label = UInt8[np.ndarray, "h w"]


def rotate(
    image: Image, label: Label, degrees: float, fill: Sequence[float]
) -> tuple[Image, Label]:
    """Image and labels rotated about their centre, with their size unchanged.

    The image is interpolated bilinearly; the labels are those of the nearest pixel. Pixels that
    come from outside the image get the colour `fill` and the ignore label.

        1 2        1 1   2 1
        1 3  at 90 2 3
                   (counterclockwise, as the image is seen)

    Args:
      image: image.
      label: its labels.
      degrees: counterclockwise.
      fill: red, green and blue in 0..255.
    """
    height, width = label.shape
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    from_y = cosine * y + sine * x + (height - 1) / 2
    from_x = cosine * x - sine * y + (width - 1) / 2
    # A pixel reaches half its side from its centre; the margin is for rounding.
    margin = 0.5 - 1e-6
    inside = (np.abs(from_y - (height - 1) / 2) <= height / 2 - 0.5 + margin) & (
        np.abs(from_x - (width - 1) / 2) <= width / 2 - 0.5 + margin
    )
    from_y, from_x = np.clip(from_y, 0, height - 1), np.clip(from_x, 0, width - 1)
    top, left = np.floor(from_y).astype(np.intp), np.floor(from_x).astype(np.intp)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down = (from_y - top).astype(np.float32)[..., None]
    along = (from_x - left).astype(np.float32)[..., None]
    above = image[top, left] * (1 - along) + image[top, right] * along
    below = image[bottom, left] * (1 - along) + image[bottom, right] * along
    rotated = above * (1 - down) + below * down
    nearest = label[np.rint(from_y).astype(np.intp), np.rint(from_x).astype(np.intp)]
    outside = ~inside
    rotated[outside] = np.asarray(fill, np.float32)
    nearest[outside] = IGNORE_LABEL
    return rotated, nearest


def blur(image: Image, deviation: float) -> Image:
    """The image convolved with a Gaussian that is cut off at four standard deviations.

    Beyond the edges of the image its edge pixels are repeated. `deviation` is in pixels.
    """
    return scipy.ndimage.gaussian_filter(image, (deviation, deviation, 0), mode="nearest")


def shift_hue(image: Image, turns: float) -> Image:
    """The image with its hues shifted by a fraction of the hue circle of HSV.

    A third of a turn makes red green, green blue and blue red. Value and saturation do not change.
    """
    value = image.max(axis=-1)
    chroma = value - image.min(axis=-1)
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = np.moveaxis(image, -1, 0)
    sixths = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths = sixths + np.float32(6 * turns)
    channels = []
    for start in (5, 3, 1):  # where along the circle red, green and blue begin to fall
        place = (start + sixths) % 6
        channels.append(value - chroma * np.clip(np.minimum(place, 4 - place), 0, 1))
    return np.stack(channels, axis=-1).astype(np.float32)
