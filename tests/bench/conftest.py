"""The TPU's compiler, for processes of their own."""

import os
import pathlib
import sys

import pytest


@pytest.fixture
def tpu_compiler():
    """Environment of a process that compiles for a TPU.

    The compiler lies beside the packages: among them, JAX would start it in every process.
    """
    library = pathlib.Path(sys.prefix, "compilers", "libtpu", "libtpu.so")
    assert library.exists(), "make .venv/.installed-test installs it"
    kept = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    return kept | {"TPU_LIBRARY_PATH": str(library)}
