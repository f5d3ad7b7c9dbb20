"""`ranet predict`: segment images."""

import argparse
from typing import Any

from ranet_jax.cli import compilation_cache
from ranet_jax.cli.arguments import PathText, refuse, with_examples
from ranet_jax.config_files import override

EXAMPLES = (
    "ranet predict runs/demo photo.jpg folder/ --output predictions",
    "ranet predict runs/demo large.tif --output predictions --config.eval.mode=slide",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "predict", help="segment images", **with_examples(*EXAMPLES, overriding=True)
    )
    parser.add_argument(
        "checkpoint",
        type=PathText,
        help="working directory, checkpoint, exported or published model",
    )
    parser.add_argument(
        "images",
        type=PathText,
        nargs="+",
        help="image files, or directories that hold them; with --submission at any depth",
    )
    parser.add_argument(
        "--output",
        type=PathText,
        required=True,
        help="directory of the pictures; with --submission, a .zip",
    )
    parser.add_argument(
        "--submission",
        choices=("cityscapes",),
        help="write the label images that this benchmark's server takes",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        help="how opaque labels lie over the images (0 to 1; default: 0.4)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        help="refuse images of more pixels (default: 536870912)",
    )
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Segment images into pictures, or into a benchmark's archive."""
    if arguments.submission is not None:
        refuse(arguments, ("--alpha",), "has no effect with --submission, which draws no pictures")
        refuse(arguments, ("--max-pixels",), "has no effect with --submission")

    from ranet_jax.inference.files import (
        MAX_PIXELS,
        check_max_pixels,
        find_images,
        predict_files,
    )
    from ranet_jax.inference.model import load
    from ranet_jax.inference.pictures import OVERLAY_ALPHA, check_alpha

    alpha = OVERLAY_ALPHA if arguments.alpha is None else arguments.alpha
    check_alpha(alpha)
    max_pixels = MAX_PIXELS if arguments.max_pixels is None else arguments.max_pixels
    check_max_pixels(max_pixels)
    compilation_cache.use_cache(arguments)
    model = load(
        arguments.checkpoint, configure=lambda config: override(config, arguments.overrides)
    )
    if arguments.submission is not None:
        from ranet_jax.inference.submission import FORMATS, write_submission

        count = write_submission(model, arguments.submission, arguments.images, arguments.output)
        print(f"{count} label images are in {arguments.output}.")
        wanted = FORMATS[arguments.submission].num_images
        if count != wanted:
            print(
                f"The server of {arguments.submission} scores all {wanted} images of its test set."
            )
        return 0
    count = len(find_images(arguments.images))
    failures = predict_files(model, arguments.images, arguments.output, alpha, max_pixels)
    if len(failures) < count:
        print(f"Written to {arguments.output}.")
    return 1 if failures else 0
