"""`ranet predict`: segment images, videos and what a camera sees."""

import argparse
from typing import Any

from ranet_jax.cli import compilation_cache
from ranet_jax.cli.arguments import CameraText, PathText, path_or_camera, refuse, with_examples
from ranet_jax.cli.document import show_document
from ranet_jax.config_files import override
from ranet_jax.display.output import tell
from ranet_jax.errors import UserError

EXAMPLES = (
    "ranet predict runs/demo photo.jpg folder/ --output predictions",
    "ranet predict runs/demo clip.mp4 --output predictions --frame-labels",
)


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "predict", help="segment images and videos", **with_examples(*EXAMPLES, overriding=True)
    )
    parser.add_argument(
        "checkpoint",
        type=PathText,
        help="working directory, checkpoint, exported or published model",
    )
    parser.add_argument(
        "images",
        type=path_or_camera,
        nargs="+",
        help="images and videos, or directories that hold them (with --submission at any depth); or"
        " a camera (camera:0) or the address of a stream (rtsp://, https://)",
    )
    parser.add_argument(
        "--output",
        type=PathText,
        required=True,
        help="directory of the pictures; with --submission, a .zip file",
    )
    parser.add_argument(
        "--submission",
        choices=("cityscapes",),
        help="write the label images that this benchmark's server expects",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        help="opacity of the labels drawn over the images (0 to 1; default: 0.4)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        help="refuse images with more pixels than this (default: 536870912)",
    )
    parser.add_argument(
        "--frame-labels",
        action="store_true",
        help="for videos and cameras: also write the labels of each frame as PNG",
    )
    parser.add_argument(
        "--max-frames", type=int, metavar="N", help="for videos and cameras: end after N frames"
    )
    compilation_cache.add_option(parser)
    parser.set_defaults(run=run, takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Segment images, videos or a camera into pictures, or images into a benchmark's archive."""
    if arguments.submission is not None:
        refuse(arguments, ("--alpha",), "has no effect with --submission, which draws no pictures")
        others = ("--max-pixels", "--frame-labels", "--max-frames")
        refuse(arguments, others, "has no effect with --submission")

    from ranet_jax.inference import files
    from ranet_jax.inference.model import load
    from ranet_jax.inference.pictures import OVERLAY_ALPHA, check_alpha
    from ranet_jax.inference.video import is_video

    settings: dict[str, Any] = {
        "alpha": OVERLAY_ALPHA if arguments.alpha is None else arguments.alpha,
        "max_pixels": files.MAX_PIXELS if arguments.max_pixels is None else arguments.max_pixels,
        "frame_labels": arguments.frame_labels,
        "max_frames": arguments.max_frames,
    }
    check_alpha(settings["alpha"])
    files.check_limits(settings["max_pixels"], settings["max_frames"])
    cameras = [source for source in arguments.images if isinstance(source, CameraText)]
    if cameras and (len(arguments.images) > 1 or arguments.submission is not None):
        raise UserError(
            f"{cameras[0]} cannot be combined with other inputs or --submission; leave those out."
        )
    compilation_cache.use_cache(arguments)
    model = load(
        arguments.checkpoint, configure=lambda config: override(config, arguments.overrides)
    )
    if arguments.submission is not None:
        return _write_submission(model, arguments)
    if cameras:
        tell(f"{cameras[0]} is segmented until Ctrl-C.")
        results = [files.predict_camera(model, cameras[0], arguments.output, **settings)]
    else:
        if not any(map(is_video, files.find_images(arguments.images))):
            options = ("--frame-labels", "--max-frames")
            refuse(arguments, options, "has no effect without a video or camera")
        results = files.predict_files(model, arguments.images, arguments.output, **settings)
    if any(result.files for result in results):
        tell(f"Written to {arguments.output}.")
    show_document({"predictions": results})
    return 1 if any(result.error for result in results) else 0


def _write_submission(model: Any, arguments: argparse.Namespace) -> int:
    from ranet_jax.inference.submission import FORMATS, write_submission

    name, output = arguments.submission, arguments.output
    count = write_submission(model, name, arguments.images, output)
    tell(f"{count} label images are in {output}.")
    wanted = FORMATS[name].num_images
    if count != wanted:
        tell(f"The server of {name} expects all {wanted} images of its test set.")
    show_document({"output": output, "num_images": count, "num_images_wanted": wanted})
    return 0
