"""`ranet pack`: write a prepared data set as one NumPy file, for machines without TensorFlow."""

import argparse
import os
from typing import Any

from ranet_jax.cli.arguments import PathText, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config import default_config
from ranet_jax.display.output import tell

EXAMPLES = (
    "ranet pack camvid --output camvid.npz --quality 90",
    "ranet pack mine --data-dir my_tfds --splits train val test --output mine.npz",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "pack",
        help="write a prepared data set as one NumPy file, to train without TensorFlow",
        **with_examples(*EXAMPLES),
    )
    parser.add_argument("name", help="prepared data set")
    parser.add_argument(
        "--output", type=PathText, required=True, metavar="FILE.npz", help="file to write"
    )
    parser.add_argument(
        "--data-dir",
        type=os.path.expanduser,
        help="where the data set is (default: TFDS's directory)",
    )
    parser.add_argument(
        "--splits", nargs="+", default=("train", "val"), help="splits (default: train val)"
    )
    parser.add_argument(
        "--quality", type=int, metavar="Q", help="store images as JPEG of quality 1 to 95"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file and print its size."""
    from ranet_jax.files.paths import file_size
    from ranet_jax.pipeline import arrays, examples

    data = default_config().data
    data.name, data.data_dir = arguments.name, arguments.data_dir
    builder = examples.open_dataset(data)
    metadata = examples.dataset_metadata(builder)
    splits = {split: examples.encoded_examples(builder, split) for split in arguments.splits}
    arrays.write_arrays(arguments.output, metadata, splits, arguments.quality)
    size = file_size(arguments.output)
    splits_packed = f"{', '.join(arguments.splits)} of {metadata.name}"
    tell(f"{arguments.output}: {splits_packed}, {size / 1e6:.1f} MB.")
    show_document(
        {
            "output": arguments.output,
            "dataset": metadata.name,
            "splits": arguments.splits,
            "bytes": size,
        }
    )
    return 0
