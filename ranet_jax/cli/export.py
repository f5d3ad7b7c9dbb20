"""`ranet export`: a trained model as a program for another runtime."""

import argparse
from typing import Any, Literal

from ranet_jax.cli import compilation_cache
from ranet_jax.cli.arguments import PathText, refuse, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.cli.port import write_state_dict
from ranet_jax.config_files import override
from ranet_jax.display.output import tell
from ranet_jax.errors import UserError
from ranet_jax.files import check_suffix

EXAMPLES = (
    "ranet export runs/demo --format onnx --size 128 128 --output demo.onnx",
    "ranet export runs/demo --format tflite --size 128 128 --quantize int8 --output demo.tflite",
    "ranet export runs/fcn --format savedmodel --size dynamic --output fcn_savedmodel",
    "ranet export runs/demo --format safetensors --output demo.safetensors",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "export",
        help="write a model for another runtime",
        **with_examples(*EXAMPLES, overriding=True),
    )
    parser.add_argument(
        "checkpoint",
        type=PathText,
        help="working directory, checkpoint, exported or published model",
    )
    parser.add_argument(
        "--format",
        choices=("stablehlo", "onnx", "savedmodel", "tflite", "pth", "safetensors"),
        required=True,
        help="what to write; pth and safetensors hold only the weights",
    )
    parser.add_argument(
        "--size",
        nargs="+",
        metavar="PIXELS",
        help="height and width of the images in pixels, or `dynamic` for any",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8", "float16"),
        help="smaller weights: int8 for onnx and tflite, float16 for stablehlo and savedmodel",
    )
    parser.add_argument(
        "--output", type=PathText, required=True, help="new file; for savedmodel, a new directory"
    )
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Write a model for another runtime, compared with what the model predicts here."""
    from ranet_jax.hub.cards import export_card, write_export_card
    from ranet_jax.hub.pretrained import scores_of
    from ranet_jax.inference.export import WEIGHTS, export, find_format, refuse_existing
    from ranet_jax.inference.model import load

    if arguments.format in WEIGHTS:
        return _write_weights(arguments)
    find_format(arguments.format)
    size, output = _size(arguments.size), arguments.output
    refuse_existing(export_card(output))
    compilation_cache.use_cache(arguments)
    model = load(
        arguments.checkpoint, configure=lambda config: override(config, arguments.overrides)
    )
    scores = scores_of(model, arguments.checkpoint)
    exported = export(model, output, arguments.format, size, arguments.quantize)
    write_export_card(output, model, exported, scores)
    tell(f"Written to {output}, with a model card beside it. {exported.report}")
    comparison = exported.comparison
    show_document(
        {
            "output": output,
            "format": arguments.format,
            "size": size,
            "quantize": arguments.quantize,
            "probabilities_difference": comparison and comparison.probabilities,
            "labels_differing": comparison and comparison.labels,
        }
    )
    return 0


def _write_weights(arguments: argparse.Namespace) -> int:
    """Write the weights as `ranet port --reverse` does.

    That keeps more of a ported network than a model has.
    """
    why = f"has no meaning for {arguments.format}, which holds only the weights"
    refuse(arguments, ("--size", "--quantize"), why)
    if arguments.overrides:
        raise UserError(f"A field of the config {why}; leave it out.")

    from ranet_jax.hub.cards import export_card, write_weights_card
    from ranet_jax.hub.pretrained import scores_of
    from ranet_jax.inference.export import refuse_existing
    from ranet_jax.inference.model import load
    from ranet_jax.porting import is_backbone

    checkpoint, output = arguments.checkpoint, arguments.output
    check_suffix(output, f".{arguments.format}")
    if is_backbone(checkpoint):  # it has a card in its directory, and no classes to describe
        write_state_dict(checkpoint, output)
        return 0
    refuse_existing(export_card(output))
    model = load(checkpoint)
    scores = scores_of(model, checkpoint)
    write_weights_card(output, model, write_state_dict(checkpoint, output), scores)
    tell(f"Its model card is {export_card(output)}.")
    return 0


def _size(words: list[str] | None) -> tuple[int, int] | Literal["dynamic"]:
    if words == ["dynamic"]:
        return "dynamic"
    try:
        height, width = map(int, words or ())
    except ValueError:
        raise UserError(
            "--size takes a height and a width in pixels, such as 128 128, or `dynamic`."
        ) from None
    return height, width
