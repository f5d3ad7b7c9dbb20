"""`ranet export`: a trained model as a program for another runtime."""

import argparse
from typing import Any

from ranet_jax.cli import compilation_cache
from ranet_jax.cli.arguments import PathText, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config_files import override
from ranet_jax.display.output import tell

EXAMPLES = (
    "ranet export runs/demo --format onnx --size 128 128 --output demo.onnx",
    "ranet export runs/demo --format savedmodel --size 128 128 --output demo_savedmodel",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "export",
        help="write a model for another runtime",
        **with_examples(*EXAMPLES, overriding=True),
    )
    parser.add_argument(
        "checkpoint", type=PathText, help="working directory, checkpoint or exported model"
    )
    parser.add_argument(
        "--format",
        choices=("stablehlo", "onnx", "savedmodel", "tflite"),
        required=True,
        help="what to write; `ranet port --reverse` writes the weights as .pth or .safetensors",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        required=True,
        help="height and width of the images in pixels",
    )
    parser.add_argument(
        "--output", type=PathText, required=True, help="new file; of savedmodel, a new directory"
    )
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Write a model, after a comparison with what it predicts here."""
    from ranet_jax.inference.export import export, find_format
    from ranet_jax.inference.model import load

    find_format(arguments.format)
    compilation_cache.use_cache(arguments)
    model = load(
        arguments.checkpoint, configure=lambda config: override(config, arguments.overrides)
    )
    height, width = arguments.size
    exported = export(model, arguments.output, arguments.format, (height, width))
    comparison = exported.comparison
    tell(
        f"Written to {arguments.output}. In {exported.format.runtime} its probabilities differ by"
        f" {comparison.probabilities:.1e} at most from those of `ranet predict`, and"
        f" {comparison.labels:.2%} of the labels."
    )
    if exported.remark:
        tell(exported.remark)
    show_document(
        {
            "output": arguments.output,
            "format": arguments.format,
            "size": [height, width],
            "runtime": exported.format.runtime,
            "probabilities_difference": comparison.probabilities,
            "labels_differing": comparison.labels,
            "remark": exported.remark,
        }
    )
    return 0
