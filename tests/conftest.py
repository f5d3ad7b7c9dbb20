"""Settings of all tests: eight CPU devices, no silent promotion of ranks or dtypes."""

import gc
import os
import tempfile

import pytest

from helpers import xla


def pytest_configure(config):
    """Set up jax before the first test module imports it."""
    # Tests, and the programs that they start, share compiled code through a cache of their own;
    # nothing is written to the user's cache.
    cache = tempfile.TemporaryDirectory(prefix="ranet_jax_tests_")
    config.add_cleanup(cache.cleanup)
    os.environ |= {
        "XLA_FLAGS": xla.flags(8),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": cache.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        # Nobody reads the source locations in lowered programs, and writing them takes time.
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    }

    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(items):
    """Run files with slow tests first, so that workers that take file after file end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """Exclude the million objects of libraries and tests, which all stay, from garbage collection.

    The garbage that tests leave is also collected less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)


@pytest.fixture(autouse=True, scope="module")
def _forget_what_a_module_compiled():
    """Free a module's compiled programs: thousands would take gigabytes by the end."""
    yield
    import jax

    jax.clear_caches()


@pytest.fixture(scope="session")
def object_store():
    """An S3 server that the environment names."""
    from helpers import object_store

    with object_store.serve():
        yield


@pytest.fixture
def bucket(object_store):
    """An empty bucket of the server."""
    from helpers.object_store import Bucket

    return Bucket()
