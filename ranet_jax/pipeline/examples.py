"""Training and evaluation batches of prepared data sets, read through TFDS and tf.data.

This is the only module of the pipeline that imports TensorFlow, and it does so only when one of its
functions is called.
"""

import contextlib
import importlib
import os
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from jaxtyping import UInt8

from ranet_jax.errors import NotPreparedError, UserError, first_sentence
from ranet_jax.files import paths
from ranet_jax.files.paths import Path, as_path
from ranet_jax.pipeline.augmentation import augment
from ranet_jax.pipeline.batching import Batch, batch_by_size
from ranet_jax.pipeline.labels import check_labels
from ranet_jax.pipeline.metadata import IGNORE_LABEL, DatasetMetadata
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.pipeline.variation import Variation

# The file of a prepared data set that TFDS writes last.
DESCRIPTION = "dataset_info.json"
Builder = Any  # tfds.core.DatasetBuilder, which cannot be named without importing TFDS


def import_tensorflow() -> tuple[Any, Any]:
    """TensorFlow without its start-up messages and without GPUs, and TFDS."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # oneDNN prints a message in spite of the log level, and no operation of this module needs it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow as tf
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            "Reading data sets needs TensorFlow and TensorFlow Datasets; "
            "install them with `pip install 'ranet_jax[data]'`."
        ) from error
    tf.config.set_visible_devices([], "GPU")
    return tf, tfds


# ------------------------------------------------------------------------------ data sets


def default_data_dir() -> Path:
    """TFDS's default directory: `TFDS_DATA_DIR` if set now, else `~/tensorflow_datasets`."""
    return as_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def known_datasets() -> tuple[str, ...]:
    """Names of the data sets that `prepare` can build."""
    package = importlib.import_module("ranet_data")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg))


def open_dataset(data: ml_collections.ConfigDict) -> Builder:
    """Open the newest prepared version of `data.name` under `data.data_dir`.

    This needs no builder code, since a prepared data set describes itself. tf.data reads only local
    files, so a copy of a data set on an object store is kept on this machine. Raises
    NotPreparedError if the data set is not there, UserError if its description is damaged.
    """
    _, tfds = import_tensorflow()
    directory = default_data_dir() if data.data_dir is None else as_path(data.data_dir)
    root = directory / data.name
    names = [path.parent.name for path in paths.find_in_each(root, DESCRIPTION)]
    versions = [tfds.core.Version(name) for name in names if tfds.core.Version.is_valid(name)]
    if not versions:
        paths.check_bucket(directory)
        what = f"Data set {data.name!r} is not prepared in {directory}"
        raise NotPreparedError(what, data.name, data.data_dir)
    return open_version(data.name, root / str(max(versions)))


def open_version(name: str, directory: Path) -> Builder:
    """Open the directory of a version; UserError that names the data set if it is damaged."""
    _, tfds = import_tensorflow()
    copy = paths.kept_copy(directory)
    with reading_description(name, directory):
        return tfds.builder_from_directory(copy)


@contextlib.contextmanager
def reading_description(name: str, directory: Path) -> Iterator[None]:
    """Raise UserError if TFDS, which checks no descriptions, fails on a damaged one."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        raise UserError(
            f"The description of data set {name!r} in {directory} is damaged"
            f" ({first_sentence(error)}); remove the directory and prepare the data set again."
        ) from error


def open_for_training(data: ml_collections.ConfigDict) -> Builder:
    """Open a data set as `open_dataset` does; UserError if it lacks the config's splits."""
    builder = open_dataset(data)
    for split in (data.train_split, data.eval_split):
        num_examples(builder, split)
    return builder


def builder_class(name: str) -> Any:
    """TFDS builder of a known data set."""
    return importlib.import_module(f"ranet_data.{name}.{name}_dataset_builder").Builder


def dataset_metadata(builder: Builder) -> DatasetMetadata:
    """Class names and palette that a prepared data set carries in its TFDS metadata.

    Raises UserError if one of them is missing, or if there is an ignore label other than 255.
    """
    with reading_description(builder.name, as_path(builder.data_path)):
        fields = builder.info.metadata
    missing = [key for key in ("class_names", "palette") if key not in (fields or {})]
    if missing:
        raise UserError(
            f"The metadata of data set {builder.name!r} in {builder.data_path} has no "
            f"{' and no '.join(missing)}; add them in its TFDS builder."
        )
    ignore_label = fields.get("ignore_label", IGNORE_LABEL)
    if ignore_label != IGNORE_LABEL:
        raise UserError(
            f"Data set {builder.name!r} ignores label {ignore_label}; "
            f"store such pixels as {IGNORE_LABEL} instead."
        )
    return DatasetMetadata.from_json(
        {"name": builder.name, "ignore_label": IGNORE_LABEL, **dict(fields)}
    )


# ------------------------------------------------------------------------------- examples


def num_examples(
    builder: Builder,
    split: str,
    process_index: int | None = None,
    process_count: int | None = None,
) -> int:
    """Number of examples in this host's share of a split, which may be written like `val[:10]`.

    Raises UserError if the split is unknown or empty.
    """
    share = _host_share(builder, split, process_index, process_count)
    return 0 if share is None else builder.info.splits[share].num_examples


def _host_share(
    builder: Builder, split: str, process_index: int | None, process_count: int | None
) -> Any:
    """This host's even share of a split as TFDS takes it; None if no example is left for it."""
    _, tfds = import_tensorflow()
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    available = ", ".join(f"{name} ({s.num_examples})" for name, s in builder.info.splits.items())
    try:
        total = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise UserError(
            f"Data set {builder.name!r} has no split {split!r}; it has {available}."
        ) from error
    if total == 0:
        raise UserError(f"Split {split!r} of {builder.name!r} is empty; it has {available}.")
    share = tfds.even_splits(split, n=count, drop_remainder=False)[index]
    return share if builder.info.splits[share].num_examples else None


def _read(builder: Builder, share: Any) -> Any:
    """tf.data set of a share's examples in the stored order, with images and labels encoded."""
    _, tfds = import_tensorflow()
    skip = {"image": tfds.decode.SkipDecoding(), "label": tfds.decode.SkipDecoding()}
    return builder.as_dataset(
        split=share,
        decoders=skip,
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False, skip_prefetch=True),
    )


def _arrays(dataset: Any, builder: Builder, variation: Variation | None = None) -> Iterator[Any]:
    """Yield the elements of a tf.data set of a builder's records as NumPy arrays.

    Raises UserError if the records are damaged, or if the variation of the examples failed, which
    TensorFlow reports as an error of its own.
    """
    tf, _ = import_tensorflow()
    # With autotuning, the end of an iterator of TensorFlow 2.21 may wait for the next tuning step;
    # after some minutes these steps are a minute apart.
    options = tf.data.Options()
    options.autotune.enabled = False
    try:
        yield from dataset.with_options(options).as_numpy_iterator()
    except tf.errors.OpError as error:
        if variation is not None and variation.fault is not None:
            raise variation.fault from error
        raise UserError(
            f"The records of data set {builder.name!r} are damaged"
            f" ({first_sentence(error.message)}); delete {builder.data_path} and prepare it again."
        ) from error


def label_maps(builder: Builder, split: str) -> Iterator[np.ndarray]:
    """Label uint8 [H, W] of each example of a split, in the stored order.

    Raises UserError if the records are damaged.
    """
    tf, _ = import_tensorflow()
    for example in _arrays(_read(builder, split).prefetch(2), builder):
        yield tf.io.decode_png(example["label"], channels=1).numpy()[..., 0]


def encoded_examples(builder: Builder, split: str) -> Iterator[tuple[bytes, bytes]]:
    """Image (JPEG or PNG) and label (PNG) of each example of a split, in the stored order.

    Raises UserError if the split is unknown or empty, or the records are damaged.
    """
    share = _host_share(builder, split, 0, 1)
    for example in _arrays(_read(builder, share).prefetch(2), builder):
        yield example["image"], example["label"]


def read_example(
    builder: Builder, split: str, number: int
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Image and label of one example of a split, in the stored order, as evaluation reads them.

    Raises UserError if there is no such example, or the records are damaged.
    """
    tf, _ = import_tensorflow()
    share = _host_share(builder, split, 0, 1)
    for example in _arrays(_read(builder, share).skip(number).take(1), builder):
        label = tf.io.decode_png(example["label"], channels=1).numpy()[..., 0]
        return decode_stored(example["image"]), label
    raise UserError(
        f"Split {split!r} of {builder.name!r} has no example {number};"
        f" it has {num_examples(builder, split, 0, 1)}, numbered from 0."
    )


def decode_stored(encoded: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of a JPEG or PNG file as training and evaluation read it.

    Raises UserError, whose message is only the decoder's reason, if they cannot read it.
    """
    tf, _ = import_tensorflow()
    try:
        return _decode_image(tf, encoded).numpy()
    except tf.errors.OpError as error:
        words = re.sub(r"\{\{.*?\}\}|\[Op:\w+\]", "", error.message)  # names inside TensorFlow
        raise UserError(first_sentence(words)) from error


def _decode_image(tf: Any, encoded: Any) -> Any:
    # Reads PNG as well as JPEG, and JPEG as Pillow reads it.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode(tf: Any, example: dict[str, Any]) -> tuple[Any, Any]:
    """Float32 RGB image [H, W, 3] in 0..255 and uint8 label [H, W, 1] of an encoded example."""
    label = tf.io.decode_png(example["label"], channels=1)
    return tf.cast(_decode_image(tf, example["image"]), tf.float32), label


# ------------------------------------------------------------------------------- training


def train_batches(
    config: ml_collections.ConfigDict,
    builder: Builder,
    start_step: int = 0,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[Batch]:
    """Endless shuffled and augmented training batches of this host, from step `start_step` on.

    Yields {"image": float32 [B, h, w, 3] normalised, "label": uint8 [B, h, w]} with h x w the crop
    size and B = `train.batch_size` / hosts. Batch N depends on `config.seed`, N, the index of this
    host and the number of hosts: the order of the host's share is drawn from (seed, epoch), each
    example's augmentation from (seed, its number among those of all hosts). Examples before
    `start_step` are skipped without decoding them. With `data.shared_order` all hosts together have
    the batches that a single host would have; each host then reads the whole split and decodes its
    part of every batch. Raises UserError on a batch size that the hosts cannot share, on a split
    that is unknown or too small for them, on a label out of range, and on damaged records.
    """
    data = config.data
    tf, _ = import_tensorflow()
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    if config.train.batch_size % count:
        raise UserError(
            f"train.batch_size {config.train.batch_size} cannot be shared by {count} hosts; "
            f"choose a multiple of {count}."
        )
    batch_size = config.train.batch_size // count
    stream, streams = (0, 1) if data.shared_order else (index, count)
    share = _host_share(builder, data.train_split, stream, streams)
    if share is None:
        raise UserError(
            f"Split {data.train_split!r} of {builder.name!r} has fewer examples than the "
            f"{count} hosts."
        )
    size = num_examples(builder, data.train_split, stream, streams)
    drawn = config.train.batch_size // streams  # examples of the stream in each step
    first = start_step * drawn
    variation = Variation(data)
    encoded = _read(builder, share)

    @tf.autograph.experimental.do_not_convert
    def epoch_examples(epoch: Any) -> Any:
        seed = tf.random.stateless_uniform(
            [], seed=[config.seed, epoch], minval=0, maxval=2**31 - 1, dtype=tf.int64
        )
        shuffled = encoded.shuffle(
            data.shuffle_buffer, seed=seed, reshuffle_each_iteration=False
        ).enumerate(epoch * size)
        return shuffled.skip(tf.maximum(first - epoch * size, 0))

    @tf.autograph.experimental.do_not_convert
    def augmented(number: Any, example: dict[str, Any]) -> dict[str, Any]:
        image, label = _decode(tf, example)
        seed = [config.seed, number * streams + stream]
        return augment(tf, data, variation, image, label, seed)

    epochs = tf.data.Dataset.range(first // size, np.iinfo(np.int64).max)
    numbered = epochs.flat_map(epoch_examples)
    if drawn > batch_size:
        numbered = numbered.filter(lambda number, _: number % drawn // batch_size == index)
    batches = (
        numbered.map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(2)
    )
    arrays = _arrays(batches, builder, variation)
    changed_by = "" if data.function is None else f" or config.data.function {data.function!r}"
    return _checked(arrays, dataset_metadata(builder), data.train_split, changed_by)


def _checked(
    batches: Iterator[Batch], metadata: DatasetMetadata, split: str, changed_by: str = ""
) -> Iterator[Batch]:
    """The batches; UserError, which names the split and `changed_by`, on a label out of range."""
    for batch in batches:
        try:
            check_labels(batch["label"], metadata.num_classes, metadata.ignore_label)
        except UserError as error:
            raise UserError(
                f"Split {split!r} of {metadata.name!r}{changed_by} is at fault. {error}"
            ) from error
        yield batch


# ----------------------------------------------------------------------------- evaluation


def evaluation_batches(
    config: ml_collections.ConfigDict,
    builder: Builder,
    split: str,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[Batch]:
    """Each example of this host's share of a split once, at native size, in batches of equal size.

    Yields {"image": float32 [B, H, W, 3] normalised, "label": uint8 [B, H, W], "mask": bool [B]}
    with B = `eval.batch_size`. Images wait for others of their size. A short batch is filled up
    with zero images of label 255 and mask False: to B or, if no batch of its image size has been
    full before, to a power of two. Raises UserError on an unknown or empty split, on a label out of
    range, and on damaged records.
    """
    tf, _ = import_tensorflow()
    metadata = dataset_metadata(builder)
    share = _host_share(builder, split, process_index, process_count)
    if share is None:
        return iter(())
    normalise = Normalization.from_config(config.data)

    @tf.autograph.experimental.do_not_convert
    def decoded(example: dict[str, Any]) -> dict[str, Any]:
        image, label = _decode(tf, example)
        return {"image": normalise(image), "label": label[..., 0]}

    examples = _read(builder, share).map(decoded, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    checked = _checked(_arrays(examples, builder), metadata, split)
    return batch_by_size(checked, config.eval.batch_size)
