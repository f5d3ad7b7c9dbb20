"""The TPU compiler, for tests that run it in separate processes."""

import os
import pathlib
import sys

import pytest


@pytest.fixture
def tpu_compiler():
    """Environment of a process that compiles for a TPU.

    The compiler is not among the installed packages, where JAX would start it in every process.
    """
    library = pathlib.Path(sys.prefix, "compilers", "libtpu", "libtpu.so")
    assert library.exists(), "make .venv/.installed-test installs it"
    kept = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    return kept | {"TPU_LIBRARY_PATH": str(library)}
