"""`ranet inspect`: parameters and feature sizes of a config."""

import argparse
from typing import Any

from ranet_jax.cli.arguments import PathText, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config_files import read_config
from ranet_jax.display.tables import show

EXAMPLES = (
    "ranet inspect --config configs/shapes.py --num-classes 7",
    "ranet inspect --config configs/camvid.py --config.model.context=psp --parameters",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "inspect",
        help="parameters and feature sizes of a config",
        **with_examples(*EXAMPLES, overriding=True),
    )
    parser.add_argument("--config", type=PathText, required=True, help="file of configs/")
    parser.add_argument("--num-classes", type=int, default=19, help="categories (default: 19)")
    parser.add_argument("--parameters", action="store_true", help="list every parameter")
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the parameters and the sizes of features."""
    from ranet_jax.inspection import inspect_config

    config = read_config(arguments.config, arguments.overrides)
    found = inspect_config(config, arguments.num_classes)
    show(found.text(arguments.parameters), found.tables(arguments.parameters))
    show_document(found.to_json(arguments.parameters))
    return 0
