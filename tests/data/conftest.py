"""A source of the data set `folder`."""

import pytest

from helpers.folder_source import (
    make_source,
)


@pytest.fixture
def source(tmp_path):
    """The smallest source that can be prepared, for tests to spoil."""
    sizes = {"train/a.png": (8, 10), "train/b.jpg": (8, 10), "val/c.png": (6, 7)}
    return make_source(tmp_path / "source", sizes=sizes)
