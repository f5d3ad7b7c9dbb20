"""`ranet reproduce`: train and measure the rows of a table of the paper."""

import argparse
import os
from typing import Any

from ranet_jax.cli.arguments import PathText, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config import check_config
from ranet_jax.config_files import load_config, override
from ranet_jax.display.output import tell
from ranet_jax.display.tables import show
from ranet_jax.errors import UserError
from ranet_jax.files import read_json

EXAMPLES = (
    "ranet reproduce table1 --data camvid --rows none ranet --seeds 3 --output results",
    "ranet reproduce oracle --data camvid --output results",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "reproduce",
        help="train and measure the rows of a table of the paper",
        **with_examples(*EXAMPLES, overriding=True),
    )
    parser.add_argument("table", choices=("table1", "table2", "table3", "table4", "oracle"))
    parser.add_argument("--data", required=True, metavar="NAME", help="prepared data set")
    parser.add_argument(
        "--output", type=PathText, required=True, help="directory of runs and tables"
    )
    parser.add_argument(
        "--config", type=PathText, help="file of configs/ (default: that of the data set)"
    )
    parser.add_argument(
        "--data-dir",
        type=os.path.expanduser,
        help="where the data set is (default: TFDS's directory)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="steps of each training, with proportional warm-up (default: the config's)",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="trainings of each row (default: 1)"
    )
    parser.add_argument(
        "--rows", nargs="+", metavar="RUN", help="train only these rows, such as: none ranet"
    )
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Train and measure the rows of a table of the paper."""
    from ranet_jax import reproduce

    config = load_config(arguments.config or str(reproduce.base_config(arguments.data)))
    config.data.name = arguments.data
    if arguments.data_dir is not None:
        config.data.data_dir = arguments.data_dir
    if arguments.steps is not None:
        if arguments.steps < 1:
            raise UserError(f"--steps is {arguments.steps}; choose 1 or more.")
        check_config(config)
        warmup = config.optimizer.warmup_steps * arguments.steps // config.train.steps
        config.optimizer.warmup_steps = warmup
        config.train.steps = config.train.eval_every = arguments.steps
    config = override(config, arguments.overrides)
    table = reproduce.reproduce(
        arguments.table, config, arguments.output, arguments.seeds, arguments.rows
    )
    show(f"\n{table}")
    tell(f"\nWritten to {arguments.output}/{arguments.table}.md and .json.")
    show_document(read_json(arguments.output / f"{arguments.table}.json"))
    return 0
