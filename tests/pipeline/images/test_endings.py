"""Detection of PNG and JPEG files that are cut off."""

import io

import numpy as np
import pytest
from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.pipeline.images import decode_image, open_rows
from ranet_jax.pipeline.images.endings import is_whole


def encoded(kind, **options):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail():
    """A JPEG with a segment that holds another whole JPEG, as cameras write previews."""
    file, preview = encoded("jpeg"), encoded("jpeg", quality=10)
    return file[:2] + b"\xff\xe5" + (2 + len(preview)).to_bytes(2) + preview + file[2:]


FILES = {
    "png": encoded("png"),
    "jpeg": encoded("jpeg"),
    "progressive": encoded("jpeg", progressive=True),
    "restarts": encoded("jpeg", restart_marker_rows=1),
    "preview": with_thumbnail(),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_whole_with_its_end_alone(name, tmp_path):
    file = FILES[name]
    assert is_whole(file)
    assert is_whole(file + b"\xff\xda trailer \xff IEND")  # as phones append films
    assert decode_image(file, "x").shape == (40, 50, 3)
    for cut in (1, 2, 3, 12, 100, len(file) // 2, len(file) - 10):
        assert not is_whole(file[:-cut])
        # The last four bytes of a PNG are a checksum that nobody looks at.
        assert is_whole(file[:-cut] + bytes(cut)) == (name == "png" and cut < 5)
    path = tmp_path / "cut"
    path.write_bytes(file[:-12] if name == "png" else file[:-2] + bytes(2))
    with pytest.raises(UserError, match=r"^x .*(cut off|truncated).*; restore it or leave it out"):
        decode_image(path.read_bytes(), "x")
    with pytest.raises(UserError, match="cut is cut off or damaged"), open_rows(path):
        pass


@pytest.mark.parametrize("file", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xff"])
def test_little_is_not_whole_but_where_the_format_is_another(file):
    assert is_whole(file) == (file == b"")
