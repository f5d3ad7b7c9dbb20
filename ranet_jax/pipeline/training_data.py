"""What a training reads: the data set's description and batches, from wherever they are stored."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from ranet_jax.pipeline import examples
from ranet_jax.pipeline.arrays import ArrayDataset
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.metadata import DatasetMetadata


class TrainingData(NamedTuple):
    """The arguments of `training.loop.train` that come from the data.

    `train_batches` goes from a number of steps done to the batches from there on; `eval_batches`
    gives those to score.
    """

    dataset: DatasetMetadata
    train_batches: Callable[[int], Iterator[Batch]]
    eval_batches: Callable[[], Iterable[Batch]]


def open_training_data(config: ConfigDict, arrays: str | None = None) -> TrainingData:
    """Open the prepared data set that the config names, or a file of packed arrays instead.

    Raises:
      UserError: the data set is not prepared or the file cannot be read, or a split is missing.
    """
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
