"""Rows of large TIFF files, with one strip or row of tiles in memory at a time."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

# Values of tags of TIFF 6.0 and its supplements.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_JPEG = 7
_MULTIPLIED_BY_ALPHA = 1
_ORIENTATION, _UPRIGHT = 274, 1
_READ_BYTES = 2**22
# Most pixels in a strip or a row of tiles; larger ones, such as a single strip, save no memory.
_BLOCK_PIXELS = 2**25


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str],
) -> Iterator[Iterator[UInt8[np.ndarray, "_ _ 3"]] | None]:
    """The first image of a TIFF file as RGB in blocks of whole rows, from top to bottom.

    None is yielded if the package tifffile is missing, if the file is not a TIFF that it can
    decode, if its strips or tiles are very large, or if its pixels are not upright grey, RGB or
    RGBA of eight bits a channel.
    """
    try:
        import tifffile
    except ImportError:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tifffile.TiffFile(path))
            page: Any = file.pages[0]
            plain = _is_plain(page) and next(_segments(page)) is not None
        except Exception:  # damage and missing codecs raise errors of any kind
            plain = False
        yield _blocks(page) if plain else None


def _is_plain(page: Any) -> bool:
    """Whether the pixels of a page are of a kind that `_blocks` turns into RGB."""
    orientation = page.tags.valueof(_ORIENTATION, _UPRIGHT)
    known = {1: (_WHITE_IS_ZERO, _BLACK_IS_ZERO), 3: (_RGB, _YCBCR), 4: (_RGB,)}
    return (
        page.dtype == np.uint8
        and _block_rows(page) * page.imagewidth <= _BLOCK_PIXELS
        and page.bitspersample == 8
        and page.photometric in known.get(page.samplesperpixel, ())
        and (page.photometric != _YCBCR or page.compression == _JPEG)
        and page.planarconfig == 1
        and page.imagedepth == 1
        and _MULTIPLIED_BY_ALPHA not in page.extrasamples
        and orientation == _UPRIGHT
    )


def _segments(page: Any) -> Iterator[Any]:
    """Strips or tiles, from left to right and from top to bottom."""
    return page.segments(maxworkers=1, buffersize=_READ_BYTES)


def _block_rows(page: Any) -> int:
    """Rows of a strip or a tile."""
    return page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)


def _blocks(page: Any) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """Blocks of a page's rows, each as high as a strip or a tile; missing parts are zeros."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    rows = _block_rows(page)
    block, top = np.zeros((rows, width, samples), np.uint8), 0
    for segment, (_, _, y, x, _), _ in _segments(page):
        if y != top:
            yield _as_rgb(block[: height - top], page)
            block, top = np.zeros((rows, width, samples), np.uint8), y
        if segment is not None:
            part = segment[0, : height - y, : width - x]
            block[: part.shape[0], x : x + part.shape[1]] = part
    yield _as_rgb(block[: height - top], page)


def _as_rgb(
    block: UInt8[np.ndarray, "rows width _"], page: Any
) -> UInt8[np.ndarray, "rows width 3"]:
    if page.photometric == _WHITE_IS_ZERO:
        block = 255 - block
    return np.repeat(block, 3, axis=-1) if block.shape[-1] == 1 else block[..., :3]
