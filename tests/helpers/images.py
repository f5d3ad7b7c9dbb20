"""Images as the bytes of files."""

import io

from PIL import Image


def png(array):
    """An array of grey or RGB values as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
