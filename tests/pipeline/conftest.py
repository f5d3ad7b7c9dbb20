"""The data set `blocks`, prepared once for a file of tests."""

import pytest

from helpers.blocks import Blocks, whole_images


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    Blocks(data_dir=directory).download_and_prepare()
    return directory


@pytest.fixture
def config(data_dir):
    return whole_images(data_dir)
