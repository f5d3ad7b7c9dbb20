"""The command `ranet` and the list of its subcommands.

Errors in the input or with files print one sentence on standard error and give exit status 1, also
with `--quiet` and `--json`. Training that a signal stopped has exit status 143 (SIGTERM) or 130
(Ctrl-C), and training that lost one of its other processes has 75. The same command continues it.
"""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import sys

from absl import logging

from ranet_jax.cli import (
    bench,
    evaluate,
    explore,
    export,
    inspect,
    pack,
    port,
    predict,
    prepare,
    publish,
    reproduce,
    train,
)
from ranet_jax.cli.arguments import Parser, convert_paths
from ranet_jax.cli.completion import SHELLS, PrintCompletion
from ranet_jax.cli.document import show_document
from ranet_jax.config.declarations import FIELDS
from ranet_jax.display.output import Output, with_output
from ranet_jax.display.tables import show
from ranet_jax.errors import Interrupted, NotPreparedError, UserError
from ranet_jax.files import reason

# In the order of the help. Modules that are slow to import are imported when a command runs.
COMMANDS = (
    *(prepare, pack, train, evaluate, predict, explore),
    *(export, port, publish, bench, reproduce, inspect),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.set_verbosity(logging.FATAL)  # what Orbax logs with a traceback, it also raises
    parsed, overrides = build_parser().parse_known_args(arguments)
    try:
        if overrides and not hasattr(parsed, "takes_overrides"):
            command = " ".join(filter(None, ("ranet", parsed.command)))
            raise UserError(f"{overrides[0]!r} is not an option of `{command}`.")
        parsed.overrides = overrides
        parsed.is_program = arguments is None
        if parsed.is_program:
            signal.signal(signal.SIGTERM, _stop)
        convert_paths(parsed)
        with with_output(Output(quiet=parsed.quiet, json=parsed.json)):
            return parsed.run(parsed)
    except UserError as error:
        sentence = str(error)
        if isinstance(error, NotPreparedError):
            sentence = f"{error.what}; {prepare.how_to_prepare(error.name, error.data_dir)}."
        if hasattr(parsed, "takes_overrides"):
            sentence = _as_typed(sentence)
        print(f"ranet: {sentence}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the output has gone
        with contextlib.suppress(OSError):  # keep Python from writing the rest when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # such as a name that is too long, wherever it is used
        if error.filename is None:
            raise
        print(
            f"ranet: {error.filename} cannot be read or written ({reason(error)}); name another, or"
            " fix this and run the same command again.",
            file=sys.stderr,
        )
        return 1
    except Interrupted as stop:
        print(f"ranet: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("ranet: interrupted.", file=sys.stderr)
        return 130


def _overview(arguments: argparse.Namespace) -> int:
    """Print what this folder holds and what to do next."""
    from ranet_jax.cli.overview import look_around
    from ranet_jax.pipeline.examples import default_data_dir

    found = look_around(pathlib.Path(), default_data_dir())
    show(found.text())
    show_document(found)
    return 0


def _stop(number: int, frame: object) -> None:
    """End the command as Ctrl-C does, so that partly written files are removed."""
    raise Interrupted("stopped by SIGTERM.", 128 + number)


def _as_typed(sentence: str) -> str:
    """The sentence with fields of the config spelled as the command line takes them."""

    def typed(match: re.Match[str]) -> str:
        return f"--config.{match[1]}" if match[1] in FIELDS else match[0]

    return re.sub(r"(?<![-\w/])config\.(\w+(?:\.\w+)?)", typed, sentence)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, each of which sets `run`."""
    parser = Parser(
        prog="ranet", description="Region Attention Network for semantic segmentation, in JAX."
    )
    parser.set_defaults(run=_overview, quiet=False, json=False)
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="print a script with which this shell completes commands, options and files",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
