"""`ranet train`: train a config, or continue a training."""

import argparse
import contextlib
import math
import os
import re
import time
from typing import Any

from ml_collections import ConfigDict

from ranet_jax.cli import compilation_cache, supervise
from ranet_jax.cli.arguments import PathText, refuse, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config import check_config, set_field
from ranet_jax.config_files import (
    load_config,
    overridden,
    override,
    packaged_config,
    read_config,
)
from ranet_jax.display.output import tell
from ranet_jax.display.tables import show
from ranet_jax.errors import Interrupted, UserError
from ranet_jax.files import explained
from ranet_jax.files.paths import Path, is_file
from ranet_jax.training.process_options import JOIN_TIMEOUT, LOST_AFTER, check_processes

# How long a training with `--data` takes unless `--minutes` is given.
MINUTES = 30.0
PROCESS_OPTIONS = (
    *("--coordinator", "--num-processes", "--process-id"),
    *("--join-timeout", "--lost-after"),
)

EXAMPLES = (
    "ranet train --config configs/shapes.py --workdir runs/shapes --config.train.steps=2000",
    "ranet train --data mine --data-dir my_tfds --minutes 30 --workdir runs/mine",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "train", help="train, or continue a training", **with_examples(*EXAMPLES, overriding=True)
    )
    experiment = parser.add_mutually_exclusive_group(required=True)
    experiment.add_argument("--config", type=PathText, metavar="FILE", help="file of configs/")
    experiment.add_argument(
        "--data",
        metavar="NAME",
        help="prepared data set of your own, to which configs/own_data.py is fitted",
    )
    parser.add_argument(
        "--data-dir",
        type=os.path.expanduser,
        help="with --data: where the data set is (default: TFDS's directory)",
    )
    parser.add_argument(
        "--init",
        type=os.path.expanduser,
        metavar="DIR",
        help="with --data: weights to start from, a directory of `ranet port` or of a run",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"with --data: how long the command may take (default: {MINUTES:g})",
    )
    parser.add_argument(
        "--workdir",
        type=PathText,
        required=True,
        help="directory of checkpoints and metrics",
    )
    parser.add_argument(
        "--arrays",
        type=PathText,
        metavar="FILE.npz",
        help="file of `ranet pack` in place of a prepared data set",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="this process is one of several: see launch/README.md",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="with --distributed: address of process 0"
    )
    parser.add_argument("--num-processes", type=int, help="with --distributed: number of processes")
    parser.add_argument(
        "--process-id", type=int, help="with --distributed: number of this process, from 0"
    )
    parser.add_argument(
        "--join-timeout",
        type=int,
        metavar="SECONDS",
        help="with --distributed: seconds to wait for the last process (default: 300)",
    )
    parser.add_argument(
        "--lost-after",
        type=int,
        metavar="SECONDS",
        help="with --distributed: end when a process is silent for this long (default: 30)",
    )
    parser.add_argument(
        "--profile",
        metavar="START:STOP",
        help="write a trace of these steps, excluding STOP, to WORKDIR/profile for XProf",
    )
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Train, or continue, in one process or as one of several; print the scores."""
    started = time.monotonic()
    arguments.profile = _steps(arguments.profile)
    if arguments.data is None:
        refuse(arguments, ("--data-dir", "--init", "--minutes"), "has no meaning without --data")
    if not arguments.distributed:
        refuse(arguments, PROCESS_OPTIONS, "has no meaning without --distributed")
        return _train_until_signal(arguments, started)
    alone = ("--arrays", "--data")
    refuse(arguments, alone, "works in one process only, so not with --distributed")
    processes = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    waits = (_given(arguments.join_timeout, JOIN_TIMEOUT), _given(arguments.lost_after, LOST_AFTER))
    check_processes(*processes, *waits)
    if arguments.is_program and not supervise.is_supervised():
        return supervise.supervise(arguments.workdir, *waits)
    if arguments.is_program:
        supervise.follow_supervisor()

    from ranet_jax.training.processes import join, one_fate

    join(*processes, *waits)
    with one_fate(lambda: supervise.going_on(arguments.workdir), waits[1]):
        return _train_until_signal(arguments, started)


def _steps(text: str | None) -> tuple[int, int] | None:
    """The two steps of `--profile START:STOP`."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,18}):([0-9]{1,18})", text)
    if match is None or not 0 < int(match[1]) < int(match[2]):
        raise UserError(
            f"--profile {text!r} does not name steps; give START:STOP with 1 or more as START and"
            " a larger STOP, such as 20:25."
        )
    return int(match[1]), int(match[2])


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def _train_until_signal(arguments: argparse.Namespace, started: float) -> int:
    from ranet_jax.training.signals import catch_signals

    with catch_signals():
        return _train(arguments, started)


def _train(arguments: argparse.Namespace, started: float) -> int:
    import jax

    from ranet_jax.pipeline.training_data import open_training_data
    from ranet_jax.training.loop import train
    from ranet_jax.training.records import NonFiniteLossError

    compilation_cache.use_cache(arguments)
    if arguments.data is not None:
        config = _own_config(arguments, started)
    else:
        config = read_config(arguments.config, arguments.overrides)
    try:
        data = open_training_data(config, arguments.arrays)
        result = train(config, arguments.workdir, *data, profile=arguments.profile)
    except (Interrupted, NonFiniteLossError):
        with contextlib.suppress(UserError):  # what ended the training matters more
            _draw_curves(arguments.workdir)
        raise
    is_first = jax.process_index() == 0
    if is_first:
        show(result.table(), asked_for=False)
    _draw_curves(arguments.workdir)
    if arguments.data is not None:
        tell(f"The command took {(time.monotonic() - started) / 60:.1f} minutes.")
    if is_first:
        show_document({"workdir": arguments.workdir, **result.to_json()})
    return 0


def _draw_curves(workdir: Path) -> None:
    """Draw on the first host the curves of a training that has ended, if it recorded any."""
    import jax

    from ranet_jax.training.curves import draw_curves

    picture = workdir / "curves.png"
    remedy = "training has ended; make room, then run the same command again to draw it"
    with explained(picture, remedy):
        if jax.process_index() == 0 and is_file(workdir / "metrics.jsonl"):
            draw_curves(workdir / "metrics.jsonl", picture)


def _own_config(arguments: argparse.Namespace, started: float) -> ConfigDict:
    """The config of an existing run, or one fitted to the data set; reports which it is."""
    from ranet_jax import checkpoints
    from ranet_jax.checkpoints.workdirs import find_training
    from ranet_jax.training.recipe.own_data import fit

    minutes = MINUTES if arguments.minutes is None else arguments.minutes
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes is {minutes}; choose a number above 0.")
    workdir = arguments.workdir
    found = find_training(workdir)
    goes_on = found is not None and checkpoints.has_checkpoint(workdir)
    config = load_config(packaged_config("own_data.py"))
    if found is not None and goes_on:
        config, _ = found
    named = {
        "data.name": arguments.data,
        "data.data_dir": arguments.data_dir,
        "model.init_from": arguments.init,
    }
    given = {name: str(value) for name, value in named.items() if value is not None}
    for name, value in given.items():
        set_field(config, name, value)
    override(config, arguments.overrides)
    check_config(config)
    if goes_on:
        tell(f"{workdir} resumes with its saved config, of {config.train.steps} steps in total.")
        return config
    kept = overridden(arguments.overrides) | given.keys()
    fitted = fit(config, kept, minutes, started, arguments.arrays, tell)
    tell(f"Planned to take {fitted.seconds / 60:.1f} minutes in total.")
    return fitted.config
