"""Reading of image files and of masks of class numbers; errors name the file."""

import io
import os
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from ranet_data.archives import File
from ranet_jax.errors import UserError
from ranet_jax.pipeline.examples import decode_stored
from ranet_jax.pipeline.images import decode_image, load_image

# First bytes of the files that may be stored as they are: JPEG and PNG.
_STORED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
# Place of the bit depth in a PNG file: its header comes first (PNG specification, 11.2.2).
_PNG_BIT_DEPTH = 24


def load_mask(path: File) -> Image.Image:
    """Mask with its stored values; UserError if the file is damaged or not a PNG of eight bits."""
    encoded = path.read_bytes()
    image = load_image(encoded, path)
    if image.format != "PNG":
        raise UserError(
            f"{path} is in the format {image.format}, not PNG; save the mask as a PNG, which keeps"
            " its values as they are."
        )
    bits = encoded[_PNG_BIT_DEPTH]
    if bits != 8 and image.mode != "P":  # Pillow scales such values to 0..255, or cuts them off
        raise UserError(
            f"{path} holds {bits}-bit values; save the mask as a grey PNG of 8 bits, or as an"
            " indexed one."
        )
    return image


def read_mask(path: File) -> Image.Image:
    """Mask whose pixels are class numbers, with its palette if it has one (mode P, else L).

    Raises UserError if the file is damaged, or not a PNG of one channel of eight bits.
    """
    image = load_mask(path)
    if image.mode not in ("L", "P"):
        raise UserError(
            f"{path} is not an image of one channel (its mode is {image.mode}); save the class"
            " numbers as a grey or indexed PNG."
        )
    return image


def labelled_example(
    name: str, image_file: File, label: np.ndarray, label_file: File, upright: bool = False
) -> tuple[str, dict[str, Any]]:
    """A data set's example with its name, its image in bytes that training can decode.

    The file's own bytes are used if training decodes them to the pixels that prediction reads;
    otherwise the image is stored as a PNG.

    Args:
      name: name of the example.
      image_file: file of its image.
      label: categories uint8 [H, W].
      label_file: file that they were read from.
      upright: whether the label belongs to the image turned as its EXIF says, not to the stored
        pixels.

    Raises UserError if the image is damaged, or not of the size of its label.
    """
    _check_name(name, image_file)
    encoded = image_file.read_bytes()
    pixels = decode_image(encoded, image_file, upright)
    if pixels.shape[:2] != label.shape:
        _refuse_sizes(encoded, pixels, image_file, label, label_file)
    if encoded.startswith(_STORED):
        try:
            stored = decode_stored(encoded)
        except UserError as error:
            raise UserError(
                f"{image_file} cannot be decoded by training ({error}); restore it or"
                " save it again."
            ) from error
        if np.array_equal(stored, pixels):
            return name, {"image": encoded, "label": label[..., None], "name": name}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return name, {"image": buffer.getvalue(), "label": label[..., None], "name": name}


def _check_name(name: str, image_file: File) -> None:
    """Raise UserError unless a data set can store an example's name."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(str(image_file)).decode(errors="backslashreplace")
        raise UserError(f"The name of {shown} is not UTF-8; rename it.") from error


def _refuse_sizes(
    encoded: bytes, pixels: np.ndarray, image_file: File, label: np.ndarray, label_file: File
) -> NoReturn:
    """Raise UserError with the sizes of an image and its label, and whether EXIF is the reason."""
    height, width = pixels.shape[:2]
    sizes = f"{width} x {height} but its label {label_file} is {label.shape[1]} x {label.shape[0]}"
    if label.shape == pixels.shape[1::-1] == decode_image(encoded, image_file, False).shape[:2]:
        raise UserError(
            f"{image_file}, turned as its EXIF says, is {sizes}; turn the label too, or save the"
            " image without its EXIF orientation."
        )
    raise UserError(f"{image_file} is {sizes}; they must have the same size.")


def read_matlab_labels(path: File, variable: str) -> np.ndarray:
    """Label numbers int64 [H, W] of a MATLAB file; UserError if it does not hold such a matrix."""
    from scipy.io import loadmat

    try:
        variables = loadmat(io.BytesIO(path.read_bytes()), variable_names=[variable])
    except UserError:
        raise
    except Exception as error:  # on damaged files it raises errors of any kind
        raise UserError(f"{path} cannot be read as a MATLAB file ({error}).") from error
    labels = variables.get(variable)
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "uif":
        raise UserError(f"{path} holds no matrix of numbers called {variable}.")
    numbers = labels.astype(np.int64)
    if (numbers != labels).any():
        raise UserError(f"{variable} of {path} holds numbers that are not integers.")
    return numbers
