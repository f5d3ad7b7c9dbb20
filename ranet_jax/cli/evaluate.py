"""`ranet evaluate`: score a checkpoint."""

import argparse
from typing import Any

from ranet_jax.cli import compilation_cache
from ranet_jax.cli.arguments import PathText, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config_files import override
from ranet_jax.display.output import tell
from ranet_jax.display.tables import show
from ranet_jax.errors import UserError

EXAMPLES = (
    "ranet evaluate runs/demo --pictures 6",
    "ranet evaluate runs/camvid --split test --config.eval.flip=True",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "evaluate", help="score a checkpoint", **with_examples(*EXAMPLES, overriding=True)
    )
    parser.add_argument(
        "checkpoint",
        type=PathText,
        help="working directory, checkpoint, exported or published model",
    )
    parser.add_argument("--split", help="split of the data set (default: the config's)")
    parser.add_argument(
        "--output", type=PathText, help="JSON file (default: in the checkpoint's directory)"
    )
    parser.add_argument(
        "--pictures", type=int, default=0, metavar="N", help="draw the first N images too"
    )
    parser.add_argument(
        "--alpha",
        type=float,
        help="with --pictures: opacity of the labels drawn over the images (0 to 1; default: 1)",
    )
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Score a checkpoint; print what was scored, the table of classes and the files written."""
    if arguments.alpha is not None and arguments.pictures == 0:
        raise UserError("--alpha has no effect without pictures; add --pictures N.")

    from ranet_jax.evaluation.evaluate import evaluate_checkpoint

    compilation_cache.use_cache(arguments)
    evaluation = evaluate_checkpoint(
        arguments.checkpoint,
        split=arguments.split,
        output=arguments.output,
        pictures=arguments.pictures,
        alpha=1.0 if arguments.alpha is None else arguments.alpha,
        configure=lambda config: override(config, arguments.overrides),
        tell=tell,
    )
    show(evaluation.result.table())
    tell("\n" + "\n".join(f"{name}: {file}" for name, file in evaluation.files.items()))
    show_document(evaluation.report | {"files": evaluation.files})
    return 0
