"""The data of a training: the data set's description and batches, from any kind of storage."""

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.files.paths import PathLike
from ranet_jax.pipeline import examples
from ranet_jax.pipeline.arrays import ArrayDataset
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.labels import LabelStatistics, check_labels, count_labels
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.pipeline.variation import check_variation

Size = tuple[int, int]
# Number of training examples to compare the size of crops with, before anything is built.
COMPARED = 10


class TrainingData(NamedTuple):
    """The arguments of `training.loop.train` that come from the data.

    `train_batches` takes the number of steps done and yields the batches that follow;
    `eval_batches` yields the batches to score.
    """

    dataset: DatasetMetadata
    train_batches: Callable[[int], Iterator[Batch]]
    eval_batches: Callable[[], Iterable[Batch]]


def open_training_data(config: ConfigDict, arrays: PathLike | None = None) -> TrainingData:
    """Open the prepared data set that the config names, or a file of packed arrays instead.

    Raises:
      UserError: the data set is not prepared or the file cannot be read, a split is missing,
        crops are more than twice as high and as wide as the images, or `data.function` cannot be
        used.
    """
    check_variation(config.data)
    data = _open(config, arrays)
    encoded = _encoded_labels(config.data, arrays, config.data.train_split)
    _check_crop(config.data, [_size(label) for label in itertools.islice(encoded, COMPARED)])
    return data


def read_metadata(config: ConfigDict, arrays: PathLike | None = None) -> DatasetMetadata:
    """Description of the data set of a config, or of a file of packed arrays.

    Raises:
      UserError: as `open_training_data` does, except about crops and `data.function`.
    """
    return _open(config, arrays).dataset


def _open(config: ConfigDict, arrays: PathLike | None) -> TrainingData:
    split = config.data.eval_split
    if arrays is not None:
        packed = ArrayDataset.load(arrays)
        packed.examples(config.data.train_split)
        packed.examples(split)
        return TrainingData(
            packed.metadata,
            lambda step: packed.train_batches(config, step),
            lambda: packed.evaluation_batches(config, split),
        )
    builder = examples.open_for_training(config.data)
    return TrainingData(
        examples.dataset_metadata(builder),
        lambda step: examples.train_batches(config, builder, step),
        lambda: examples.evaluation_batches(config, builder, split),
    )


def _check_crop(data: ConfigDict, sizes: list[Size]) -> None:
    """Raise `UserError` if crops would be more than three quarters padding."""
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    largest = data.scale_range[1]
    crop = data.crop_size
    if crop[0] > 2 * largest * height and crop[1] > 2 * largest * width:
        raise UserError(
            f"config.data.crop_size is {tuple(crop)}, more than twice as high and wide as the"
            f" images of data set {data.name!r} ({height} x {width}) enlarged by {largest}, the"
            " largest factor of config.data.scale_range; choose a size that the images fill."
        )


def read_labels(
    data: ConfigDict, dataset: DatasetMetadata, arrays: PathLike | None = None
) -> tuple[LabelStatistics, list[Size]]:
    """How often each class occurs in the training split, and the height and width of each image.

    Raises:
      UserError: the data cannot be read, or a label is out of range.
    """
    sizes: list[Size] = []

    def label_maps() -> Iterator[np.ndarray]:
        for encoded in _encoded_labels(data, arrays, data.train_split):
            label = np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))
            check_labels(label, dataset.num_classes, dataset.ignore_label)
            sizes.append((label.shape[0], label.shape[1]))
            yield label

    return count_labels(label_maps(), dataset, data.train_split), sizes


def read_sizes(data: ConfigDict, split: str, arrays: PathLike | None = None) -> list[Size]:
    """Height and width of each image of a split, taken from its label without decoding it.

    Raises:
      UserError: the data cannot be read, or there is no such split.
    """
    return [_size(label) for label in _encoded_labels(data, arrays, split)]


def _encoded_labels(data: ConfigDict, arrays: PathLike | None, split: str) -> Iterator[bytes]:
    if arrays is not None:
        encoded = iter(ArrayDataset.load(arrays).examples(split))
    else:
        encoded = examples.encoded_examples(examples.open_dataset(data), split)
    return (label for _, label in encoded)


def _size(encoded: bytes) -> Size:
    with Image.open(io.BytesIO(encoded)) as label:
        return label.height, label.width
