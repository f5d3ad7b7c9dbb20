"""A cache on disk of what a command compiled, for the next command.

Only commands use it: a program that imports the package chooses JAX's settings itself.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

from ranet_jax.files.paths import user_caches

# The most bytes that are kept from one command to the next; the oldest programs are removed first.
MAX_BYTES = 2**30


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--no-cache`."""
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="neither read nor write the cache of compiled programs",
    )


def use_cache(arguments: argparse.Namespace) -> None:
    """Let JAX keep what it compiles, unless `--no-cache` says otherwise.

    A directory that JAX_COMPILATION_CACHE_DIR names is the user's own and is left as it is. If
    nothing can be written, everything is compiled again.
    """
    import jax

    if arguments.no_cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        directory = cache_directory()
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
        remove_oldest(directory, MAX_BYTES)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    # By default JAX keeps only programs that take a second to compile; most take less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def cache_directory() -> Path:
    """The path ranet_jax/compiled in the user's cache directory, by the XDG specification.

    Raises:
      RuntimeError: the user has no home directory.
    """
    return user_caches() / "compiled"


def remove_oldest(directory: Path, max_bytes: int) -> None:
    """Remove the least recently used files of a directory until the rest fits.

    Raises:
      OSError: a file cannot be removed.
    """
    files = []
    for path in directory.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:  # another command removed it
            continue
        files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > max_bytes:
            path.unlink(missing_ok=True)
