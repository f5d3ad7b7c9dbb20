"""`ranet train`: train a config, or go on training."""

import argparse
import contextlib
import os
from typing import Any

from ranet_jax.cli import compilation_cache
from ranet_jax.cli.arguments import OVERRIDING, path_text
from ranet_jax.config_files import read_config
from ranet_jax.errors import Interrupted, UserError, first_sentence
from ranet_jax.files import explained
from ranet_jax.files.paths import local_workdir


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("train", help="train, or go on training", epilog=OVERRIDING)
    parser.add_argument("--config", type=path_text, required=True, help="file of configs/")
    parser.add_argument(
        "--workdir",
        type=os.path.expanduser,
        required=True,
        help="directory of checkpoints and metrics",
    )
    parser.add_argument(
        "--arrays",
        type=path_text,
        metavar="FILE.npz",
        help="file of `ranet pack` in place of a prepared data set",
    )
    parser.add_argument(
        "--distributed", action="store_true", help="one process of several: see launch/README.md"
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="with --distributed: process 0")
    parser.add_argument("--num-processes", type=int, help="with --distributed: how many")
    parser.add_argument("--process-id", type=int, help="with --distributed: which this is")
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on, in one process or as one of several; print the scores."""
    local_workdir(arguments.workdir)  # before the processes wait for one another
    import jax

    processes = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if arguments.distributed and arguments.arrays is not None:
        raise UserError("--arrays works in one process only; leave --distributed out.")
    if arguments.distributed:
        try:
            jax.distributed.initialize(*processes)
        except (ValueError, RuntimeError) as error:
            raise UserError(
                "The processes of --distributed cannot find one another:"
                f" {first_sentence(error)}; see launch/README.md."
            ) from error
    elif processes != (None, None, None):
        raise UserError(
            "--coordinator, --num-processes and --process-id need --distributed; add it."
        )

    from ranet_jax.training.signals import catch_signals

    with catch_signals():
        return _train(arguments)


def _train(arguments: argparse.Namespace) -> int:
    import jax

    from ranet_jax.pipeline.training_data import open_training_data
    from ranet_jax.training.curves import draw_curves
    from ranet_jax.training.loop import train
    from ranet_jax.training.records import NonFiniteLossError

    compilation_cache.use_cache(arguments)
    config = read_config(arguments.config, arguments.overrides)
    workdir = local_workdir(arguments.workdir)

    def draw() -> None:
        records, picture = workdir / "metrics.jsonl", workdir / "curves.png"
        if jax.process_index() == 0 and records.is_file():
            remedy = "training has ended; make room, then run the same command again to draw it"
            with explained(picture, remedy):
                draw_curves(records, picture)

    try:
        result = train(config, workdir, *open_training_data(config, arguments.arrays))
    except (Interrupted, NonFiniteLossError):
        with contextlib.suppress(UserError):  # what ended training counts more
            draw()
        raise
    if jax.process_index() == 0:
        print(result.table())
    draw()
    return 0
