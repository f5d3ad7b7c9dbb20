"""The one reader of image files: 8-bit RGB of the right range from any pixel type, or an error.

Few files with more than eight bits a channel state the range that their values use. If a file does
not, 16-bit values are taken to span 0..65535 and floating-point values 0..1, and a file whose
values do not fit this is refused.
"""

import contextlib
import dataclasses
import io
import mmap
import os
import re
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Num, UInt8
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.files.paths import as_path, read_bytes
from ranet_jax.pipeline.images import tiff_rows
from ranet_jax.pipeline.images.endings import is_whole

# EXIF 2.32, tag 0x0112: the operation that turns an image upright, by orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))
# Turns after which the first row is the last row or column that is stored.
_FROM_THE_END = tuple(_TURNS[orientation] for orientation in (3, 4, 7, 8))
# Formats whose integers of more than eight bits Pillow reads correctly.
_DEEP_FORMATS = ("PNG", "TIFF", "JPEG2000", "PPM")
# Tags of TIFF, values of two of them, and the first bytes of TIFF files.
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _PLANES = 258, 259, 262, 284
_UNCOMPRESSED, _SEPARATE = 1, 2
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# If no 16-bit value reaches this, the values may have 14 bits or fewer.
_LEAST_FULL_RANGE = 2**14
_HEADER_BYTES = 2**20  # of a file; `_bits_per_channel` reads no further
_BLOCK_PIXELS = 2**22  # approximate size of a block of rows if the file does not set one


@dataclasses.dataclass(frozen=True)
class ImageRows:
    """An image of any size as blocks of whole rows, uint8 [rows, width, 3], from top to bottom."""

    height: int
    width: int
    blocks: Iterator[UInt8[np.ndarray, "_ _ 3"]]
    name: str = "The image"  # in messages

    @classmethod
    def of_array(cls, pixels: UInt8[np.ndarray, "H W 3"], name: str = "The image") -> "ImageRows":
        """An image that is in memory, as one block."""
        return cls(pixels.shape[0], pixels.shape[1], iter([pixels]), name)


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file of any pixel type as 8-bit RGB, turned as its EXIF says.

    Alpha is dropped. If the file has several frames, the first one is read.

    Raises:
      UserError: the file cannot be read as an image, is too large, or the range of its values
        is unknown.
    """
    try:
        encoded = read_bytes(as_path(path))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); restore it or leave it out."
        ) from error
    return decode_image(encoded, path)


def count_pixels(path: str | os.PathLike[str]) -> int:
    """Number of pixels of an image file according to its header; nothing is decoded.

    Raises:
      UserError: the file cannot be read as an image.
    """
    with _opened(path) as image, _decoding(path):
        return image.width * image.height


def count_encoded_pixels(encoded: bytes, name: object) -> int:
    """Number of pixels of an encoded image according to its header; nothing is decoded.

    Raises:
      UserError: the bytes cannot be read as an image.
    """
    with _decoding(name, encoded[:4]), _any_size(), Image.open(io.BytesIO(encoded)) as image:
        return image.width * image.height


@contextlib.contextmanager
def open_rows(path: str | os.PathLike[str]) -> Iterator[ImageRows]:
    """Open an image file of any size as blocks of rows, with the same pixels as `read_image`.

    If the package tifffile is installed, the strips and tiles of a TIFF file are decoded on demand,
    provided that it has eight bits a channel and is stored upright. Other files are decoded as a
    whole, into the 1 to 4 bytes a pixel that Pillow holds, or into three if they have more than
    eight bits a channel.

    Raises:
      UserError: as `read_image`, except for the size; also while blocks are read.
    """
    with _opened(path) as image:
        with tiff_rows.opened(path) as strips:
            if strips is not None:
                yield ImageRows(image.height, image.width, _explained(strips, path), str(path))
                return
        with _decoding(path), _any_size():
            with (
                open(path, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as encoded,
            ):
                bits = _bits_per_channel(image, encoded[:_HEADER_BYTES])
                _check_whole(encoded, path)
            image.load()
        turn = _TURNS.get(_orientation(image))
        if bits > 8 or image.mode == "F" or image.mode.startswith("I"):
            with _decoding(path), _any_size():
                pixels = _eight_bits(image, bits, path)
            image = Image.fromarray(pixels)
        height, width = image.size if turn in _QUARTER_TURNS else image.size[::-1]
        blocks = _turned_blocks(image, turn, height, width)
        yield ImageRows(height, width, _explained(blocks, path), str(path))


def decode_image(encoded: bytes, name: object, upright: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of an image file as `read_image` does.

    Args:
      encoded: the whole file.
      name: name of the file in messages.
      upright: turn the image as its EXIF says.

    Raises:
      UserError: as `read_image`.
    """
    image = load_image(encoded, name)
    with _decoding(name):
        pixels = _eight_bits(image, _bits_per_channel(image, encoded), name)
    turn = _TURNS.get(_orientation(image)) if upright else None
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def load_image(encoded: bytes, name: object) -> Image.Image:
    """Decode the bytes of an image file without changing its pixels.

    Raises:
      UserError: the file cannot be read as an image, or is too large.
    """
    with _decoding(name, encoded[:4]):
        image = Image.open(io.BytesIO(encoded))
        image.load()
    _check_whole(encoded, name)
    return image


def _check_whole(encoded: bytes | mmap.mmap, name: object) -> None:
    if not is_whole(encoded):
        raise UserError(f"{name} is cut off or damaged at its end; restore it or leave it out.")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, such as macOS's `._photo.jpg` beside `photo.jpg`."""
    return name.startswith(".")


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Yield the image of a file, of any size, after reading its header."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); restore it or leave it out."
            ) from error
        start = file.read(4)
        file.seek(0)
        with _decoding(path, start), _any_size():
            image = Image.open(file)
        yield image


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Suspend Pillow's limit on the size of images; callers apply a limit of their own."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _turned_blocks(
    image: Image.Image, turn: Image.Transpose | None, height: int, width: int
) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """Blocks of rows of a decoded image; `height` and `width` are its size after turning."""
    step = max(1, _BLOCK_PIXELS // width)
    for top in range(0, height, step):
        first, last = top, min(top + step, height)
        if turn in _FROM_THE_END:
            first, last = height - last, height - first
        box = (first, 0, last, width) if turn in _QUARTER_TURNS else (0, first, width, last)
        with _any_size():
            part = image.crop(box)
        yield np.asarray(_rgb(part if turn is None else part.transpose(turn)))


def _explained(
    blocks: Iterator[UInt8[np.ndarray, "_ _ 3"]], name: object
) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """The blocks; an error in their decoding becomes a UserError that names the file."""
    while True:
        with _decoding(name):
            block = next(blocks, None)
        if block is None:
            return
        yield block


@contextlib.contextmanager
def _decoding(name: object, start: bytes = b"") -> Iterator[None]:
    """Turn every error of Pillow into a UserError that names the file, and suppress its warnings.

    `start` holds the first bytes of the file if its header is being read.
    """
    try:
        with warnings.catch_warnings():  # about large sizes and damaged EXIF
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        assert Image.MAX_IMAGE_PIXELS is not None
        raise UserError(
            f"{name} has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels; cut it into parts or make"
            " it smaller."
        ) from error
    except MemoryError as error:
        raise UserError(
            f"{name} needs more memory than there is; make it smaller or cut it into parts."
        ) from error
    except UnidentifiedImageError as error:
        if start in _TIFF_STARTS:
            raise UserError(
                f"{name} is a TIFF file with a type of pixels that cannot be read, such as"
                " floating-point colours; save it with eight bits a channel."
            ) from error
        raise UserError(
            f"{name} cannot be read as an image; restore it or leave it out."
        ) from error
    except Exception as error:  # decoders raise errors of every kind
        raise UserError(
            f"{name} cannot be read as an image ({first_sentence(error)}); restore it or leave it"
            " out."
        ) from error


def _orientation(image: Image.Image) -> int:
    """Orientation in the image's EXIF; 1 (upright) if EXIF has none or is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF raises errors of many kinds
        return 1
    return orientation if isinstance(orientation, int) else 1


def _bits_per_channel(image: Image.Image, encoded: bytes) -> int:
    """Bits per channel of a file; 8 for formats that are not known to have more."""
    if image.format == "PNG":
        return encoded[24]  # PNG specification, 11.2.2: the header comes first
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]
    if image.format == "JPEG2000":
        sizes = encoded.index(b"\xff\x4f\xff\x51")  # ISO 15444-1, A.5.1: SOC, then SIZ
        return (encoded[sizes + 42] & 0x7F) + 1
    if image.format == "PPM":  # magic number, width, height, largest value
        words = re.sub(rb"#[^\r\n]*", b"", encoded[:1000]).split(maxsplit=4)
        return int(words[3]).bit_length() if words[0] in (b"P2", b"P3", b"P5", b"P6") else 8
    if image.format == "SGI":
        return 8 * encoded[3]
    return 8


def _eight_bits(image: Image.Image, bits: int, name: object) -> UInt8[np.ndarray, "H W 3"]:
    """The image as RGB, 0..255."""
    _check_planes(image, bits, name)
    if image.mode == "F":
        return _grey(_from_unit_range(np.asarray(image), name), image)
    if image.mode.startswith("I"):
        if image.format not in _DEEP_FORMATS or (image.mode == "I" and image.format != "PPM"):
            raise UserError(
                f"{name} holds integers of unknown range (Pillow's mode {image.mode}); save it"
                " with eight bits a channel, or with 16 that span 0 to 65535."
            )
        values = np.asarray(image)
        if bits == 16:
            _check_full_range(int(values.max()), name)
        # Pillow scales the values of all formats except TIFF to 16 bits.
        return _grey((values >> (bits if image.format == "TIFF" else 16) - 8), image)
    rgb = np.asarray(_rgb(image))
    if bits == 16:  # Pillow keeps the upper eight bits or rounds to them, so 0 may not be black
        colors = np.asarray(image) if image.mode == "CMYK" else rgb
        _check_full_range(max(1, 257 * int(colors.max()) - 128), name)
    return rgb


def _check_planes(image: Image.Image, bits: int, name: object) -> None:
    """Refuse files that Pillow 13.0 misreads as if their planes had eight bits."""
    if bits <= 8 or not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2.get(_PLANES), image.tag_v2.get(_COMPRESSION)
    if tags == (_SEPARATE, _UNCOMPRESSED) and len(image.getbands()) > 1:
        raise UserError(
            f"{name} is an uncompressed TIFF file of {bits} bits a channel whose channels lie in"
            " separate planes; save it with its channels together, or compressed."
        )


def _rgb(image: Image.Image) -> Image.Image:
    """An image of eight bits a channel as RGB, without its alpha."""
    if image.mode in ("La", "RGBa"):  # colours multiplied by alpha
        image = image.convert(image.mode.upper())
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _check_full_range(largest: int, name: object) -> None:
    """Refuse 16-bit values that may have fewer bits; an all-black image fits any range."""
    if 0 < largest < _LEAST_FULL_RANGE:
        raise UserError(
            f"{name} has 16 bits a channel but uses only the lowest quarter of their range, so it"
            " may be dark or hold fewer bits; save it with eight bits a channel, or scaled to 0 to"
            " 65535."
        )


def _from_unit_range(values: Num[np.ndarray, "H W"], name: object) -> Num[np.ndarray, "H W"]:
    """Floating-point grey in 0..1, scaled to 0..255."""
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        finite = np.isfinite(values).all()
        span = f"from {values.min():g} to {values.max():g}" if finite else "some not finite"
        raise UserError(
            f"{name} holds floating-point values that are not all in 0 to 1 ({span}); scale them"
            " to that range, or save it with eight bits a channel."
        )
    return np.round(values * 255)


def _grey(values: Num[np.ndarray, "H W"], image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Grey in 0..255 as RGB, inverted if a TIFF file says that 0 is white.

    Pillow itself inverts only values of eight bits.
    """
    values = values.astype(np.uint8)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0:
        values = 255 - values
    return np.repeat(values[..., None], 3, axis=-1)
