"""Settings of every test: eight CPU devices, no silent promotion of ranks or dtypes."""

import gc
import os
import tempfile

import pytest

from helpers import xla


def pytest_configure(config):
    """Set up jax before the first test module imports it."""
    # What one test compiled, another test and the programs it starts need not compile again; and
    # nothing of it is written to the user's own cache.
    cache = tempfile.TemporaryDirectory(prefix="ranet_jax_tests_")
    config.add_cleanup(cache.cleanup)
    os.environ |= {
        "XLA_FLAGS": xla.flags(8),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": cache.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        # What operations in lowered programs come from, which takes time to write, nobody reads.
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    }

    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that workers which take file after file end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """Spare the garbage collector the million objects of libraries and tests, which all stay.

    What tests leave is collected less often, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)


@pytest.fixture(autouse=True, scope="module")
def _forget_what_a_module_compiled():
    """Thousands of compiled programs would take gigabytes by the end."""
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
