"""Reading of image files and of masks of class numbers, with faults told by the file's name."""

import io
from typing import Any

import numpy as np
from PIL import Image

from ranet_data.archives import File
from ranet_jax.errors import UserError
from ranet_jax.files import UNREADABLE

# Place of the bit depth in a PNG file: its header comes first (PNG specification, 11.2.2).
_PNG_BIT_DEPTH = 24


def decode_image(encoded: bytes, path: File) -> Image.Image:
    """Decode the whole of an image file; UserError if it is damaged."""
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as an image: {error}.") from error
    return image


def read_mask(path: File) -> Image.Image:
    """Mask whose pixels are class numbers, with its palette if it has one (mode P, else L).

    Raises UserError if the file is damaged, or not of one channel of eight bits.
    """
    encoded = path.read_bytes()
    image = decode_image(encoded, path)
    kind = image.mode
    if image.format == "PNG" and kind == "L" and encoded[_PNG_BIT_DEPTH] != 8:
        kind = f"grey of {encoded[_PNG_BIT_DEPTH]} bits"  # which Pillow spreads over 0..255
    if kind not in ("L", "P"):
        raise UserError(
            f"{path} is not an 8-bit image of one channel (its mode is {kind}); save the class"
            " numbers as a grey or indexed PNG."
        )
    return image


def check_same_size(
    image: Image.Image, image_path: File, mask: Image.Image, mask_path: File
) -> None:
    """Raise UserError unless an image and its mask are of one size."""
    if image.size != mask.size:
        raise UserError(
            f"{image_path} is {image.width} x {image.height} but its label {mask_path} is "
            f"{mask.width} x {mask.height}; they must be of one size."
        )


def labelled_example(
    name: str, image_file: File, label: np.ndarray, label_file: File
) -> tuple[str, dict[str, Any]]:
    """A data set's example under its name: the image keeps its encoded bytes.

    Raises UserError if the image is damaged, or not of the size of its label uint8 [H, W].
    """
    encoded = image_file.read_bytes()
    image = decode_image(encoded, image_file)
    check_same_size(image, image_file, Image.fromarray(label), label_file)
    return name, {"image": encoded, "label": label[..., None], "name": name}


def read_matlab_labels(path: File, variable: str) -> np.ndarray:
    """Label numbers int64 [H, W] of a MATLAB file; UserError if it does not hold such a matrix."""
    from scipy.io import loadmat

    try:
        variables = loadmat(io.BytesIO(path.read_bytes()), variable_names=[variable])
    except UserError:
        raise
    except Exception as error:  # of any kind: it trips over what it happens to meet
        raise UserError(f"{path} cannot be read as a MATLAB file ({error}).") from error
    labels = variables.get(variable)
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "uif":
        raise UserError(f"{path} holds no matrix of numbers called {variable}.")
    numbers = labels.astype(np.int64)
    if (numbers != labels).any():
        raise UserError(f"{variable} of {path} holds numbers that are not whole.")
    return numbers
