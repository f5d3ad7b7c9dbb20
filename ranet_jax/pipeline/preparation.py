"""Preparation of data sets: from their original files to TFRecords."""

import contextlib
import io
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator

from ranet_jax.display.output import current_output, tell
from ranet_jax.errors import UserError, first_sentence
from ranet_jax.files import explained, paths, stores
from ranet_jax.files.paths import Path, PathLike, as_path, is_store
from ranet_jax.pipeline.examples import (
    DESCRIPTION,
    Builder,
    builder_class,
    dataset_metadata,
    default_data_dir,
    import_tensorflow,
    known_datasets,
    open_version,
    reading_description,
)
from ranet_jax.pipeline.metadata import DatasetMetadata


def prepare(
    name: str,
    source: PathLike | None = None,
    data_dir: PathLike | None = None,
    own_name: str | None = None,
    val_fraction: float | None = None,
    seed: int = 0,
) -> DatasetMetadata:
    """Build a data set as TFRecords under `data_dir` and return its description.

    A data set that exists already is left as it is. If preparation fails, nothing is left behind.
    A data set or source on an object store is held on this machine during preparation.

    Args:
      name: one of `known_datasets`.
      source: folder that the data set is read from; None for one that a program draws.
      data_dir: where to write (default: TFDS's directory).
      own_name: another name for the data set, for kinds that accept one.
      val_fraction: fraction of the images to draw for the split `val`, for kinds that accept it.
      seed: seed with which these images are drawn.

    Raises:
      UserError: the name is unknown, the source is bad, or the kind accepts no such options.
    """
    if name not in known_datasets():
        raise UserError(
            f"There is no data set {name!r}; choose one of {', '.join(known_datasets())}."
        )
    import_tensorflow()  # needed by the builders
    directory = default_data_dir() if data_dir is None else as_path(data_dir)
    paths.check_bucket(directory)
    with _place_to_write(directory) as place:
        called = own_name or name
        with _no_temporary_files(), reading_description(called, directory / called):
            builder = _builder(name, place, own_name, val_fraction, seed)
        written = pathlib.Path(builder.data_path)
        target = directory / written.relative_to(place) if is_store(directory) else written
        if paths.exists(target / DESCRIPTION if is_store(target) else target):
            unread = "" if source is None else f", so {source} was not read"
            tell(
                f"Data set {builder.name!r} is already prepared{unread}; delete {target} to build"
                " it again."
            )
            if is_store(target):
                builder = open_version(builder.name, target)
            return dataset_metadata(builder)
        _check_source(name, source, builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
        tell(f"Preparing data set {builder.name!r} in {target}.")
        with paths.local_copy(as_path(source or "")) as copy:
            _build(builder, None if source is None else str(copy), directory)
        if is_store(target):
            with explained(target, "run the same command again, or choose another directory"):
                stores.upload(written, target, last=DESCRIPTION)
        splits = builder.info.splits.items()
        counts = ", ".join(f"{split} {info.num_examples}" for split, info in splits)
        tell(f"Data set {builder.name!r} is prepared: {counts}.")
        return dataset_metadata(builder)


@contextlib.contextmanager
def _place_to_write(directory: Path) -> Iterator[pathlib.Path]:
    """Yield a local directory for data sets: the given one, or a temporary one for a store."""
    if not is_store(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="ranet_jax_") as scratch:
        yield pathlib.Path(scratch)


def _build(builder: Builder, source: str | None, directory: Path) -> None:
    """Write a data set; UserError that names the directory if it cannot be written."""
    tf, tfds = import_tensorflow()
    if not sys.stderr.isatty() or current_output().quiet:
        tfds.disable_progress_bar()
    # Remove what a killed preparation left; TFDS never resumes it.
    for left in builder.data_path.parent.glob(f"incomplete.*_{builder.data_path.name}"):
        shutil.rmtree(left)
    config = tfds.download.DownloadConfig(manual_dir=source, try_download_gcs=False)
    try:
        with (
            _new_directories(pathlib.Path(builder.data_path)),
            contextlib.redirect_stdout(io.StringIO()),  # TFDS prints what is printed here anyway
            tempfile.TemporaryDirectory() as downloads,  # stays empty
        ):
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except (OSError, RuntimeError, tf.errors.OpError) as error:  # TFDS's writers raise all three
        raise UserError(
            f"Preparing {builder.name!r} in {directory} failed ({first_sentence(error)}); make room"
            " or choose another directory."
        ) from error


def _builder(
    name: str, directory: pathlib.Path, own_name: str | None, val_fraction: float | None, seed: int
) -> Builder:
    """TFDS builder of a data set with options; UserError if its kind does not accept them."""
    kind = builder_class(name)
    if own_name is None and val_fraction is None:
        return kind(data_dir=directory)
    if not hasattr(kind, "variant"):
        raise UserError(
            f"Data set {name!r} has a fixed name and fixed splits; only a folder of images takes"
            " others."
        )
    own_name = name if own_name is None else own_name
    if not re.fullmatch("[a-z][a-z0-9_]*", own_name):
        raise UserError(
            f"{own_name!r} cannot be the name of a data set; use small letters, digits and"
            " underscores."
        )
    if own_name != name and own_name in known_datasets():
        raise UserError(f"{own_name!r} is the name of another data set; choose a different name.")
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise UserError(f"The fraction for val is {val_fraction}; choose one between 0 and 1.")
    return kind.variant(own_name, val_fraction, seed)(data_dir=directory)


@contextlib.contextmanager
def _no_temporary_files() -> Iterator[None]:
    """Remove temporary files made within the block: TFDS 4.9 leaves a directory per builder."""
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="ranet_jax_") as scratch:
        tempfile.tempdir = scratch
        try:
            yield
        finally:
            tempfile.tempdir = usual


@contextlib.contextmanager
def _new_directories(path: pathlib.Path) -> Iterator[None]:
    """On an exception, remove those parents of a path that did not exist before."""
    new = [parent for parent in path.parents if not parent.exists()]
    try:
        yield
    except BaseException:
        for parent in new:
            with contextlib.suppress(OSError):  # others may have written there since
                parent.rmdir()
        raise


def _check_source(name: str, source: PathLike | None, instructions: str | None) -> None:
    """Raise UserError if a source is missing, empty, or given where none is needed."""
    if instructions is None:
        if source is not None:
            raise UserError(
                f"Data set {name!r} is drawn by a program and takes no source; leave the"
                " source out."
            )
        return
    layout = " ".join(instructions.split())
    if source is None:
        raise UserError(f"Data set {name!r} needs a source folder. {layout}")
    place = as_path(source)
    if not paths.is_dir(place) or not paths.list_names(place):
        paths.check_bucket(place)
        raise UserError(f"The source {source} is missing or empty. {layout}")
