"""Labels as an indexed PNG, written row by row."""

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ranet_jax.inference.colors import Palette
from ranet_jax.inference.region_pictures import VOID

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BITS, _INDEXED = 8, 3
_UNFILTERED = 0


def full_palette(palette: Palette) -> UInt8[np.ndarray, "256 3"]:
    """A colour for each of the 256 labels, void for those without a class."""
    colors = np.full((256, 3), VOID, np.uint8)
    colors[: len(palette)] = np.asarray(palette, np.uint8)
    return colors


def save_label_png(
    path: str | os.PathLike, labels: UInt8[np.ndarray, "H W"], palette: Palette
) -> None:
    """Write labels as an indexed PNG: pixel values are the labels, colours are the palette's."""
    save_label_rows(path, [labels], labels.shape, palette)


def save_label_rows(
    path: str | os.PathLike,
    blocks: Iterable[UInt8[np.ndarray, "_ _"]],
    shape: tuple[int, int],
    palette: Palette,
) -> None:
    """Write labels of `shape` (height, width), given as blocks of whole rows, as `save_label_png`.

    One block is in memory at a time. The source is sections 5 and 11 of the PNG specification
    (ISO/IEC 15948).
    """
    height, width = shape
    packer = zlib.compressobj()
    with Path(path).open("wb") as file:
        header = struct.pack(">IIBBBBB", width, height, _BITS, _INDEXED, 0, 0, 0)
        file.write(_SIGNATURE + _chunk(b"IHDR", header))
        file.write(_chunk(b"PLTE", full_palette(palette).tobytes()))
        for block in blocks:
            rows = np.pad(block, ((0, 0), (1, 0)), constant_values=_UNFILTERED)
            if packed := packer.compress(rows.tobytes()):
                file.write(_chunk(b"IDAT", packed))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, contents: bytes) -> bytes:
    check = zlib.crc32(kind + contents)
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", check)
