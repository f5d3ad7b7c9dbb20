"""`ranet prepare`: write a data set in TFDS's format."""

import argparse
import os
from typing import Any

from ranet_jax.cli.arguments import PathText, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config import default_config
from ranet_jax.display.output import tell
from ranet_jax.display.tables import show

EXAMPLES = (
    "ranet prepare shapes",
    "ranet prepare folder --source my_data --name mine --data-dir my_tfds --val-fraction 0.1",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "prepare", help="write a data set in TFDS's format", **with_examples(*EXAMPLES)
    )
    parser.add_argument("name", help="data set: name of a folder in data/")
    parser.add_argument("--source", type=PathText, help="directory of the original files")
    parser.add_argument(
        "--data-dir", type=os.path.expanduser, help="where to write (default: TFDS's directory)"
    )
    parser.add_argument("--name", dest="own_name", help="for `folder`: name of your data set")
    parser.add_argument(
        "--val-fraction",
        type=float,
        help="for `folder`: share of the images to draw at random for the split val",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random choice of these images"
    )
    parser.set_defaults(run=run)


def how_to_prepare(name: str, data_dir: str | None) -> str:
    """The command that prepares a data set in a directory, by default TFDS's."""
    from ranet_jax.pipeline.examples import builder_class, known_datasets

    if name not in known_datasets():
        known = ", ".join(known_datasets())
        return (
            f"`ranet prepare` builds {known}, and `ranet prepare folder --source DIR --name {name}`"
            " builds a data set of your own"
        )
    options = "" if builder_class(name).MANUAL_DOWNLOAD_INSTRUCTIONS is None else " --source DIR"
    options += "" if data_dir is None else f" --data-dir {data_dir}"
    return f"run `ranet prepare {name}{options}`"


def run(arguments: argparse.Namespace) -> int:
    """Prepare a data set, and print its classes and how often each occurs."""
    from ranet_jax.pipeline import examples
    from ranet_jax.pipeline.labels import count_labels
    from ranet_jax.pipeline.preparation import prepare

    metadata = prepare(
        arguments.name,
        arguments.source,
        arguments.data_dir,
        arguments.own_name,
        arguments.val_fraction,
        arguments.seed,
    )
    names = ", ".join(metadata.class_names)
    tell(f"{metadata.name}: {metadata.num_classes} classes ({names}).")
    data = default_config().data
    data.name, data.data_dir = metadata.name, arguments.data_dir
    builder, split = examples.open_dataset(data), data.train_split
    statistics = count_labels(
        examples.label_maps(builder, split),
        metadata,
        split,
        examples.num_examples(builder, split),
    )
    show(statistics.report(), asked_for=False)
    weights = ",".join(map(str, statistics.class_weights))
    tell(f'To weigh rare classes more, train with --config.loss.class_weights="({weights},)".')
    splits = {name: info.num_examples for name, info in builder.info.splits.items()}
    show_document(
        {
            "dataset": metadata.name,
            "directory": builder.data_path,
            "splits": splits,
            **statistics.to_json(),
        }
    )
    return 0
