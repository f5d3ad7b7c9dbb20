"""Prediction of image files: images in, label maps and pictures out."""

import contextlib
import os
import pathlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from ranet_jax.display.progress import track
from ranet_jax.errors import UserError
from ranet_jax.files import make_directory, reason, replacing
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
from ranet_jax.pipeline.images import ImageRows, count_pixels, is_hidden, read_image
from ranet_jax.pipeline.metadata import DatasetMetadata

SUFFIXES = ("labels", "overlay", "regions")
# Least and greatest pixels of the longer side of a picture of regions.
REGION_SIDES = (640, 960)
# Images of more pixels are read and segmented in bands; it is the size from which on Pillow warns.
LARGE_PIXELS = 89_478_485
# Most pixels of an image unless more are allowed: small files can claim to be of any size.
MAX_PIXELS = 2**29


def find_images(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """The files named, and the images in the directories named, each once, in order.

    Raises:
      UserError: a directory holds no image, or two files share a name but for the extension.
    """
    known = Image.registered_extensions()
    extensions = {extension for extension, kind in known.items() if kind in Image.OPEN}
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
                    f"Directory {path} itself holds no image file, and directories in it are not"
                    " searched; name one that holds images."
                )
        files |= {resolved(file): file for file in inside}

    repeated = [
        stem for stem, count in Counter(p.stem for p in files.values()).items() if count > 1
    ]
    if repeated:
        first, second = [p for p in files.values() if p.stem == repeated[0]][:2]
        raise UserError(
            f"{first} and {second} would both be written to {repeated[0]}_labels.png; rename one"
            " of them or predict them into different directories."
        )
    return list(files.values())


def predict_files(
    model: Model,
    paths: Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    alpha: float = OVERLAY_ALPHA,
    max_pixels: int = MAX_PIXELS,
) -> list[str]:
    """Segment image files, and the images of directories, into pictures in `output_dir`.

    Of each image STEM.*, it writes STEM_labels.png (indexed, pixel values are labels),
    STEM_overlay.png (the image under its labels, `alpha` opaque, above a legend) and, if the
    network has regions and the settings ask for them, STEM_regions.png: the boundary probability
    and the regions side by side, under captions. An image of more than `LARGE_PIXELS` is segmented
    in sliding windows, whatever the mode of the settings; its overlay is of reduced size and its
    regions are left out, as standard error tells. An image that cannot be read, has more than
    `max_pixels`, or is too large for memory, is reported there and left out.

    Returns:
      A sentence for each image left out.

    Raises:
      UserError: outputs would overwrite one another or an input, or cannot be written; `alpha` is
        not from 0 to 1; or `max_pixels` is not positive.
    """
    check_alpha(alpha)
    check_max_pixels(max_pixels)
    files = find_images(paths)
    directory = as_path(output_dir)
    _check_outputs(files, directory)
    failures = []
    compiled = CompiledSizes(len(model.settings.scales))
    for path in track(files, unit="image", desc="predict", hidden=len(files) < 2):
        target = {suffix: directory / f"{path.stem}_{suffix}.png" for suffix in SUFFIXES}
        try:
            with _local_image(path) as image:
                pixels = count_pixels(image)
                _check_pixels(path, pixels, max_pixels)
                if pixels > LARGE_PIXELS:
                    _tell_of_size(path, pixels, model)
                    predict_large_file(model, image, target, alpha)
                else:
                    _predict_file(model, image, target, alpha, compiled)
        except UserError as error:
            tqdm.write(f"ranet: {error}", file=sys.stderr)
            failures.append(str(error))
        except OSError as error:
            raise UserError(
                f"The pictures of {path} cannot be written to {directory} ({reason(error)});"
                " make room or choose another output directory."
            ) from error
    return failures


@contextlib.contextmanager
def _local_image(path: Path) -> Iterator[pathlib.Path]:
    """A local file of an image, as `local_copy`; a store that cannot be read is a `UserError`."""
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(places.local_copy(path))
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); restore it or leave it out."
            ) from error
        yield image


def check_max_pixels(max_pixels: int) -> None:
    """Raise `UserError` unless `max_pixels` is positive."""
    if max_pixels < 1:
        raise UserError(f"max_pixels is {max_pixels}; choose 1 or more.")


def _check_pixels(path: Path, pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise UserError(
            f"{path} has {pixels:,} pixels, which is more than max_pixels, {max_pixels:,}; set"
            " max_pixels higher if the file is to be trusted, or cut it into parts."
        )


def _tell_of_size(path: Path, pixels: int, model: Model) -> None:
    height, width = model.settings.crop_size
    tqdm.write(
        f"ranet: {path} has {pixels:,} pixels, which is more than {LARGE_PIXELS:,}: it is segmented"
        f" in windows of {width} x {height} pixels, its overlay is drawn at a reduced size, and its"
        " boundary, regions and probabilities are left out.",
        file=sys.stderr,
    )


def _check_outputs(files: Sequence[Path], directory: Path) -> None:
    inputs = {resolved(file) for file in files}
    for file in files:
        for suffix in SUFFIXES:
            target = directory / f"{file.stem}_{suffix}.png"
            if resolved(target) in inputs:
                raise UserError(
                    f"The prediction of {file} would overwrite {target}, which is to be predicted"
                    " too; choose another output directory."
                )
    make_directory(directory, "output directory")


def _predict_file(
    model: Model, path: pathlib.Path, target: dict[str, Path], alpha: float, compiled: CompiledSizes
) -> None:
    """Segment an image that is in memory as a whole, and write its pictures."""
    image, settings = read_image(path), model.settings
    if settings.mode == "slide" and settings.scales == (1.0,) and not settings.regions:
        rows = ImageRows.of_array(image, str(path))
        labels = np.concatenate(list(model.predict_rows(rows)))
        _write_labels(model.dataset, image, labels, target, alpha)
        return
    compiled.note(image.shape)
    try:
        prediction = model.predict(image, with_regions=settings.regions)
    except UserError as error:
        raise UserError(f"{path} cannot be predicted. {error}") from error
    _write_labels(model.dataset, image, prediction.labels, target, alpha)
    if prediction.regions is not None:
        size = _region_picture_size(image.shape[:2])
        panels = region_panels(image, prediction, model.dataset.palette, size)
        sheet = contact_sheet([panels], picture_width=size[1])
        with replacing(target["regions"]) as partial:
            sheet.save(partial, format="PNG")


def _write_labels(
    dataset: DatasetMetadata,
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    target: dict[str, Path],
    alpha: float,
) -> None:
    with replacing(target["labels"]) as partial:
        save_label_png(partial, labels, dataset.palette)
    blended = overlay_with_legend(image, labels, dataset, alpha)
    with replacing(target["overlay"]) as partial:
        blended.save(partial, format="PNG")


def _region_picture_size(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the image where its longer side is brought within `REGION_SIDES`."""
    least, greatest = REGION_SIDES
    longer = max(shape)
    factor = min(max(longer, least), greatest) / longer
    height, width = (max(1, round(size * factor)) for size in shape)
    return height, width
