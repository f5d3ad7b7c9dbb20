"""`ranet publish`: a trained model in the form of the Hugging Face hub."""

import argparse
from typing import Any

from ranet_jax.cli.arguments import PathText, refuse, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.display.output import tell
from ranet_jax.errors import UserError
from ranet_jax.files import paths

EXAMPLES = (
    "ranet publish runs/demo --output demo --license apache-2.0",
    "ranet publish runs/demo --output demo --push OWNER/demo --private",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "publish",
        help="write a model in the format of the Hugging Face hub",
        **with_examples(*EXAMPLES),
    )
    parser.add_argument(
        "checkpoint", type=PathText, help="working directory, checkpoint or exported model"
    )
    parser.add_argument("--output", type=PathText, required=True, help="new directory")
    parser.add_argument(
        "--license", metavar="ID", help="the hub's name of the weights' license: apache-2.0, mit"
    )
    parser.add_argument(
        "--picture",
        type=PathText,
        help="image to show in the card (default: that of `ranet evaluate --pictures`, if any)",
    )
    parser.add_argument("--push", metavar="OWNER/NAME", help="also send the model to the hub")
    parser.add_argument(
        "--private", action="store_true", help="with --push: make a model that only you can see"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write a model's directory, and send it to the hub if asked to."""
    if arguments.push is None:
        refuse(arguments, ("--private",), "belongs to --push")
    output = arguments.output
    paths.check_bucket(output)
    if paths.exists(output):
        raise UserError(f"{output} exists already; choose another directory.")

    from ranet_jax import hub
    from ranet_jax.hub import remote
    from ranet_jax.inference.model import load

    if arguments.push is not None:
        remote.check_id(arguments.push)
    model = load(arguments.checkpoint)
    hub.save_pretrained(
        model,
        output,
        run=arguments.checkpoint,
        license=arguments.license,
        picture=arguments.picture,
        repo_id=arguments.push,
    )
    tell(f"Written to {output}.")
    address = None
    if arguments.push is not None:
        with paths.local_copy(output) as directory:
            address = remote.send(directory, arguments.push, arguments.private or None)
        tell(f"Sent to {address}.")
    show_document({"output": output, "address": address})
    return 0
