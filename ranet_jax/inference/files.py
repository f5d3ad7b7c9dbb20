"""Prediction of files: images and videos in, label maps and pictures out."""

import contextlib
import dataclasses
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from ranet_jax.display.progress import track
from ranet_jax.errors import UserError
from ranet_jax.files import explained, make_directory, reason, replacing
from ranet_jax.files import paths as places
from ranet_jax.files.paths import Path, as_path, resolved
from ranet_jax.inference.forward import CompiledSizes
from ranet_jax.inference.label_png import save_label_png
from ranet_jax.inference.large_images import predict_large_file
from ranet_jax.inference.model import Model
from ranet_jax.inference.pictures import (
    OVERLAY_ALPHA,
    check_alpha,
    contact_sheet,
    overlay_with_legend,
    region_panels,
)
from ranet_jax.inference.video import EXTENSIONS, is_video, predict_video, video_targets
from ranet_jax.inference.video_streams import camera_name, open_camera, open_video
from ranet_jax.pipeline.images import ImageRows, count_pixels, is_hidden, read_image
from ranet_jax.pipeline.metadata import DatasetMetadata

SUFFIXES = ("labels", "overlay", "regions")
# Smallest and largest number of pixels on the longer side of a picture of regions.
REGION_SIDES = (640, 960)
# Images of more pixels are read and segmented in bands; Pillow warns from this size on.
LARGE_PIXELS = 89_478_485
# The most pixels of an image unless the user allows more: small files can claim any size.
MAX_PIXELS = 2**29


def find_images(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """The files named, and the images and videos in the directories named, each once, in order.

    Raises:
      UserError: a directory holds none of them.
    """
    known = Image.registered_extensions()
    extensions = EXTENSIONS | {end for end, kind in known.items() if kind in Image.OPEN}
    files: dict[Path, Path] = {}
    for path in map(as_path, paths):
        inside = [path]
        if places.is_dir(path):
            inside = sorted(
                p
                for p in (path / name for name in places.list_names(path))
                if p.suffix.lower() in extensions and not is_hidden(p.name) and places.is_file(p)
            )
            if not inside:
                raise UserError(
                    f"Directory {path} itself holds no image file and no video, and directories in"
                    " it are not searched; name one that holds images."
                )
        files |= {resolved(file): file for file in inside}

    return list(files.values())


def _check_names(files: Sequence[Path]) -> None:
    """Raise `UserError` if the pictures of two files would have the same name."""
    first_targets: dict[str, Path] = {}
    for file in files:
        target = f"{file.stem}_overlay.mp4" if is_video(file) else f"{file.stem}_labels.png"
        if target in first_targets:
            raise UserError(
                f"{first_targets[target]} and {file} would both be written to {target}; rename one"
                " of them or predict them into different directories."
            )
        first_targets[target] = file


@dataclasses.dataclass(frozen=True)
class FilePrediction:
    """The result for a file: its pictures, or its video, by what they show.

    `error` says what is wrong with the file, if anything; `frames` is the number of frames of a
    video.
    """

    input: Path | str
    files: dict[str, Path]
    error: str | None = None
    frames: int | None = None


def predict_files(
    model: Model,
    paths: Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    alpha: float = OVERLAY_ALPHA,
    max_pixels: int = MAX_PIXELS,
    frame_labels: bool = False,
    max_frames: int | None = None,
) -> list[FilePrediction]:
    """Segment images and videos, also those in directories, into pictures in `output_dir`.

    For each image STEM.*, it writes STEM_labels.png (indexed, pixel values are labels),
    STEM_overlay.png (the image under its labels of opacity `alpha`, above a legend) and, if the
    network has regions and the settings ask for them, STEM_regions.png: the boundary probability
    and the regions side by side, under captions. An image of more than `LARGE_PIXELS` is segmented
    in sliding windows, whatever the mode of the settings; its overlay has a reduced size and its
    regions are left out, which is reported on standard error. For each video it writes what
    `predict_video` does, for at most `max_frames` frames, with label maps if `frame_labels` is set.

    A file that cannot be read, has more than `max_pixels`, or is too large for memory, is reported
    on standard error and left out; the readable part of a damaged video is segmented.

    Returns:
      The result for each file, in order.

    Raises:
      UserError: outputs would overwrite one another or an input, or cannot be written; `alpha` is
        not from 0 to 1; or `max_pixels` or `max_frames` is not positive.
    """
    check_alpha(alpha)
    check_limits(max_pixels, max_frames)
    files = find_images(paths)
    _check_names(files)
    directory = as_path(output_dir)
    targets = [_targets(file, directory, frame_labels) for file in files]
    _check_outputs(files, targets)
    make_directory(directory, "output directory")
    found = []
    compiled = CompiledSizes(len(model.settings.scales))
    pairs = zip(files, targets, strict=True)
    for path, target in track(
        pairs, total=len(files), unit="image", desc="predict", hidden=len(files) < 2
    ):
        result = FilePrediction(path, {})
        try:
            with _local_image(path) as file:
                if is_video(path):
                    result = _predict_video(
                        model, path, file, target, alpha, max_pixels, max_frames
                    )
                else:
                    written = _predict_image(model, path, file, target, alpha, max_pixels, compiled)
                    result = FilePrediction(path, written)
        except UserError as error:
            result = FilePrediction(path, {}, error=str(error))
        except OSError as error:
            raise UserError(
                f"The pictures of {path} cannot be written to {directory} ({reason(error)});"
                " make room or choose another output directory."
            ) from error
        if result.error is not None:
            tqdm.write(f"ranet: {result.error}", file=sys.stderr)
        found.append(result)
    return found


def predict_camera(
    model: Model,
    camera: str,
    output_dir: str | os.PathLike,
    alpha: float = OVERLAY_ALPHA,
    max_pixels: int = MAX_PIXELS,
    frame_labels: bool = False,
    max_frames: int | None = None,
) -> FilePrediction:
    """Segment what a camera or a stream shows, until its end, Ctrl-C or `max_frames` frames.

    It writes the same files as for a video, with the start time in their names. Arguments and
    errors are those of `predict_files`; a camera that cannot be opened raises `UserError` too.
    """
    check_alpha(alpha)
    check_limits(max_pixels, max_frames)
    directory = as_path(output_dir)
    make_directory(directory, "output directory")
    name = camera_name(camera)
    target = video_targets(directory, f"{name}_{time.strftime('%Y%m%d_%H%M%S')}", frame_labels)
    with open_camera(camera) as video:
        _check_pixels(camera, math.prod(video.size), max_pixels)
        with explained(target["overlay"], "make room or choose another output directory"):
            frames = predict_video(model, video, target, alpha, max_frames, endless=True)
    error = None
    if video.fault is not None:
        error = f"{camera} stopped ({video.fault}); the {frames} frames before that are segmented."
        tqdm.write(f"ranet: {error}", file=sys.stderr)
    return FilePrediction(camera, target, error, frames)


def _targets(file: Path, directory: Path, frame_labels: bool) -> dict[str, Path]:
    if is_video(file):
        return video_targets(directory, file.stem, frame_labels)
    return {suffix: directory / f"{file.stem}_{suffix}.png" for suffix in SUFFIXES}


def _predict_image(
    model: Model,
    path: Path,
    image: pathlib.Path,
    target: dict[str, Path],
    alpha: float,
    max_pixels: int,
    compiled: CompiledSizes,
) -> dict[str, Path]:
    """Segment the local file of an image, and return the targets that were written."""
    pixels = count_pixels(image)
    _check_pixels(path, pixels, max_pixels)
    if pixels > LARGE_PIXELS:
        _tell_of_size(path, pixels, model)
        predict_large_file(model, image, target, alpha)
        return {name: target[name] for name in ("labels", "overlay")}
    return _predict_file(model, image, target, alpha, compiled)


def _predict_video(
    model: Model,
    path: Path,
    file: pathlib.Path,
    target: dict[str, Path],
    alpha: float,
    max_pixels: int,
    max_frames: int | None,
) -> FilePrediction:
    """Segment the local file of a video."""
    with open_video(file) as video:
        _check_pixels(path, math.prod(video.size), max_pixels)
        frames = predict_video(model, video, target, alpha, max_frames)
    error = None
    if video.fault is not None:
        error = (
            f"{path} is damaged or was cut off ({video.fault}); the {frames} frames that can be"
            " read are segmented."
        )
    return FilePrediction(path, target, error, frames)


@contextlib.contextmanager
def _local_image(path: Path) -> Iterator[pathlib.Path]:
    """A local copy of an image, by `local_copy`; a store that cannot be read is a `UserError`."""
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(places.local_copy(path))
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); restore it or leave it out."
            ) from error
        yield image


def check_limits(max_pixels: int, max_frames: int | None) -> None:
    """Raise `UserError` unless `max_pixels` and, if given, `max_frames` are positive."""
    for name, value in (("max_pixels", max_pixels), ("max_frames", max_frames)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; choose 1 or more.")


def _check_pixels(path: Path | str, pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise UserError(
            f"{path} has {pixels:,} pixels, which is more than max_pixels, {max_pixels:,}; raise"
            " max_pixels if you trust the file, or cut it into parts."
        )


def _tell_of_size(path: Path, pixels: int, model: Model) -> None:
    height, width = model.settings.crop_size
    tqdm.write(
        f"ranet: {path} has {pixels:,} pixels, which is more than {LARGE_PIXELS:,}: it is segmented"
        f" in windows of {width} x {height} pixels, its overlay is drawn at a reduced size, and its"
        " boundary, regions and probabilities are left out.",
        file=sys.stderr,
    )


def _check_outputs(files: Sequence[Path], targets: Sequence[dict[str, Path]]) -> None:
    inputs = {resolved(file) for file in files}
    for file, target in zip(files, targets, strict=True):
        for path in target.values():
            if resolved(path) in inputs:
                raise UserError(
                    f"The prediction of {file} would overwrite {path}, which is to be predicted"
                    " too; choose another output directory."
                )


def _predict_file(
    model: Model, path: pathlib.Path, target: dict[str, Path], alpha: float, compiled: CompiledSizes
) -> dict[str, Path]:
    """Segment an image that is in memory as a whole, and return the pictures that were written."""
    image, settings = read_image(path), model.settings
    if settings.mode == "slide" and settings.scales == (1.0,) and not settings.regions:
        rows = ImageRows.of_array(image, str(path))
        labels = np.concatenate(list(model.predict_rows(rows)))
        return _write_labels(model.dataset, image, labels, target, alpha)
    compiled.note(image.shape)
    try:
        prediction = model.predict(image, with_regions=settings.regions)
    except UserError as error:
        raise UserError(f"{path} cannot be predicted. {error}") from error
    written = _write_labels(model.dataset, image, prediction.labels, target, alpha)
    if prediction.regions is not None:
        size = _region_picture_size(image.shape[:2])
        panels = region_panels(image, prediction, model.dataset.palette, size)
        sheet = contact_sheet([panels], picture_width=size[1])
        with replacing(target["regions"]) as partial:
            sheet.save(partial, format="PNG")
        written["regions"] = target["regions"]
    return written


def _write_labels(
    dataset: DatasetMetadata,
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    target: dict[str, Path],
    alpha: float,
) -> dict[str, Path]:
    with replacing(target["labels"]) as partial:
        save_label_png(partial, labels, dataset.palette)
    blended = overlay_with_legend(image, labels, dataset, alpha)
    with replacing(target["overlay"]) as partial:
        blended.save(partial, format="PNG")
    return {name: target[name] for name in ("labels", "overlay")}


def _region_picture_size(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the image when its longer side is brought within `REGION_SIDES`."""
    least, greatest = REGION_SIDES
    longer = max(shape)
    factor = min(max(longer, least), greatest) / longer
    height, width = (max(1, round(size * factor)) for size in shape)
    return height, width
