"""Reading of image files and of masks of class numbers, with faults told by the file's name."""

import io
from pathlib import Path

from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.files import UNREADABLE


def decode_image(encoded: bytes, path: Path) -> Image.Image:
    """Decode the whole of an image file; UserError if it is damaged."""
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as an image: {error}.") from error
    return image


def read_mask(path: Path) -> Image.Image:
    """`decode_mask` of a file."""
    return decode_mask(path.read_bytes(), path)


def decode_mask(encoded: bytes, path: Path) -> Image.Image:
    """Mask whose pixels are class numbers, with its palette if it has one (mode P, else L).

    Raises UserError if it is damaged, or not of one channel of eight bits.
    """
    image = decode_image(encoded, path)
    if image.mode not in ("L", "P"):
        raise UserError(f"{path} is not an 8-bit image of one channel (its mode is {image.mode}).")
    return image


def check_same_size(
    image: Image.Image, image_path: Path, mask: Image.Image, mask_path: Path
) -> None:
    """Raise UserError unless an image and its mask are of one size."""
    if image.size != mask.size:
        raise UserError(
            f"{image_path} is {image.width} x {image.height} but its label {mask_path} is "
            f"{mask.width} x {mask.height}; they must be of one size."
        )
