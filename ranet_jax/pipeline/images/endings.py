"""Checks whether an image file is complete, for formats whose decoders do not report it."""

import mmap
import re

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
# Markers of JPEG (ITU T.81, table B.1). The data of a scan ends at the first marker that is not a
# stuffed zero, a restart or a fill byte.
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def is_whole(encoded: bytes | mmap.mmap) -> bool:
    """Whether a PNG or JPEG file has its end marker; anything may follow the marker.

    Files of other formats count as whole.
    """
    if encoded[:8] == _PNG_START:
        return _reaches_end_of_png(encoded)
    if encoded[:2] == _JPEG_START:
        return _reaches_end_of_jpeg(encoded)
    return True


def _reaches_end_of_png(encoded: bytes | mmap.mmap) -> bool:
    """Follow the chunks: four bytes of length, four of type, the data, four of checksum."""
    place = len(_PNG_START)
    while place + 12 <= len(encoded):
        if encoded[place + 4 : place + 8] == b"IEND":
            return True
        place += 12 + int.from_bytes(encoded[place : place + 4])
    return False


def _reaches_end_of_jpeg(encoded: bytes | mmap.mmap) -> bool:
    """Follow the segments: a marker, two bytes of length, the data; a scan's data follow it."""
    place = len(_JPEG_START)
    while place + 2 <= len(encoded):
        marker = encoded[place + 1]
        if encoded[place] != 0xFF or marker == 0xFF:
            place += 1  # fill bytes, or bytes that a decoder skips
        elif marker == _END_OF_IMAGE:
            return True
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + int.from_bytes(encoded[place + 2 : place + 4])
            if marker == _START_OF_SCAN:
                found = _AFTER_SCAN.search(encoded, place)
                place = len(encoded) if found is None else found.start()
    return False
