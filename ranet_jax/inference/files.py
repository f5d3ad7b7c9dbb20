"""Prediction of image files: images in, label maps and pictures out."""

import os
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from ranet_jax.errors import UserError
from ranet_jax.files import make_directory, reason, replacing
from ranet_jax.files import paths as places
from ranet_jax.files.paths import Path, as_path, resolved
from ranet_jax.images import is_hidden, read_image
from ranet_jax.inference.forward import CompiledSizes
from ranet_jax.inference.model import Model
from ranet_jax.inference.pictures import (
    OVERLAY_ALPHA,
    check_alpha,
    contact_sheet,
    overlay_with_legend,
    region_panels,
    save_label_png,
)
from ranet_jax.inference.prediction import Prediction
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.progress import track

SUFFIXES = ("labels", "overlay", "regions")
# Least and greatest pixels of the longer side of a picture of regions.
REGION_SIDES = (640, 960)


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
                raise UserError(f"Directory {path} holds no image file; name another.")
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
) -> list[str]:
    """Segment image files, and the images of directories, into pictures in `output_dir`.

    Of each image STEM.*, it writes STEM_labels.png (indexed, pixel values are labels),
    STEM_overlay.png (the image under its labels, `alpha` opaque, above a legend) and, if the
    network has regions, STEM_regions.png: the boundary probability and the regions side by side,
    under captions. An image that cannot be read, or is too large for memory, is reported on
    standard error and left out.

    Returns:
      A sentence for each image left out.

    Raises:
      UserError: outputs would overwrite one another or an input, or cannot be written; or `alpha`
        is not from 0 to 1.
    """
    check_alpha(alpha)
    files = find_images(paths)
    directory = as_path(output_dir)
    _check_outputs(files, directory)
    failures = []
    compiled = CompiledSizes(len(model.settings.scales))
    for path in track(files, unit="image", desc="predict", hidden=len(files) < 2):
        try:
            image = read_image(path)
            compiled.note(image.shape)
            prediction = _predict(model, image, path)
        except UserError as error:
            tqdm.write(f"ranet: {error}", file=sys.stderr)
            failures.append(str(error))
            continue
        try:
            _write_pictures(model.dataset, image, prediction, directory / path.stem, alpha)
        except OSError as error:
            raise UserError(
                f"The pictures of {path} cannot be written to {directory} ({reason(error)});"
                " make room or choose another output directory."
            ) from error
    return failures


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


def _predict(model: Model, image: UInt8[np.ndarray, "H W 3"], path: Path) -> Prediction:
    """Prediction of a file's image; UserError, which names the file, if memory does not suffice."""
    try:
        return model.predict(image)
    except UserError as error:
        raise UserError(f"{path} cannot be predicted. {error}") from error


def _write_pictures(
    dataset: DatasetMetadata,
    image: UInt8[np.ndarray, "H W 3"],
    prediction: Prediction,
    stem: Path,
    alpha: float,
) -> None:
    target = {suffix: stem.with_name(f"{stem.name}_{suffix}.png") for suffix in SUFFIXES}
    with replacing(target["labels"]) as partial:
        save_label_png(partial, prediction.labels, dataset.palette)
    blended = overlay_with_legend(image, prediction.labels, dataset, alpha)
    with replacing(target["overlay"]) as partial:
        blended.save(partial, format="PNG")
    if prediction.regions is not None:
        size = _region_picture_size(image.shape[:2])
        panels = region_panels(image, prediction, dataset.palette, size)
        sheet = contact_sheet([panels], picture_width=size[1])
        with replacing(target["regions"]) as partial:
            sheet.save(partial, format="PNG")


def _region_picture_size(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the image where its longer side is brought within `REGION_SIDES`."""
    least, greatest = REGION_SIDES
    longer = max(shape)
    factor = min(max(longer, least), greatest) / longer
    height, width = (max(1, round(size * factor)) for size in shape)
    return height, width
