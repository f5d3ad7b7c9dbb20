"""Images as the bytes of files, including kinds that Pillow does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SHORT, LONG = 3, 4  # TIFF types


def saved(image, kind="PNG", **options):
    """A Pillow image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array):
    """An array of grey or RGB values as a PNG."""
    return saved(Image.fromarray(array))


def raw_png(width, height, depth, color_type, row_bytes):
    """A PNG of rows that are already encoded as bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row for row in row_bytes)  # each row begins with its filter
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def deep_png(array):
    """A PNG with 16 bits per channel from uint16 [H, W, channels], with one to four channels."""
    height, width, channels = array.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = [row.astype(">u2").tobytes() for row in array]
    return raw_png(width, height, 16, color_type, rows)


def tiff(pixels, width, height, bits, photometric=1, sample_format=1, order="<", samples=1):
    """An uncompressed TIFF of pixel bytes that are already laid out."""
    extra = struct.pack(f"{order}{samples}H", *[bits] * samples)
    tags = [(256, LONG, width), (257, LONG, height), (258, SHORT, bits), (259, SHORT, 1)]
    tags += [(262, SHORT, photometric), (273, LONG, 0), (277, SHORT, samples)]
    tags += [(278, LONG, height), (279, LONG, len(pixels)), (339, SHORT, sample_format)]
    end = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind, value in tags:
        count = samples if tag in (258, 339) else 1
        if tag == 273:
            value = end + 2 * len(extra)
        packed = struct.pack(order + ("H2x" if kind == SHORT else "I"), value)
        if count > 2:
            packed = struct.pack(f"{order}I", end if tag == 258 else end + len(extra))
        entries += struct.pack(f"{order}HHI", tag, kind, count) + packed
    formats = struct.pack(f"{order}{samples}H", *[sample_format] * samples)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    head += struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + extra + formats + pixels


def packed_twelve_bits(values):
    """Pairs of 12-bit values in three bytes, as TIFF lays them out."""
    first, second = values.reshape(-1, 2).T.astype(int)
    parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(parts, -1).astype(np.uint8).tobytes()


def exif(*entries, order="<"):
    """An EXIF block of (tag, type, count, four bytes)."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", len(entries)) + body + bytes(4)


def fits(array):
    """A FITS file of uint16 [H, W]; the format reads the values as signed numbers."""
    height, width = array.shape
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height}
    head = "".join(f"{name:8}= {value!s:>20}".ljust(80) for name, value in cards.items())
    return (head + "END").ljust(2880).encode() + array.astype(">u2").tobytes().ljust(2880, b"\0")
