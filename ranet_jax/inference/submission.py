"""Predictions in the format of a benchmark's server: label images in one zip archive."""

import dataclasses
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ranet_data.cityscapes import labels as cityscapes
from ranet_jax.checkpoints import fingerprint
from ranet_jax.config import config_to_json
from ranet_jax.display.progress import track
from ranet_jax.errors import UserError
from ranet_jax.files import read_json, reason, replacing, write_json
from ranet_jax.files.mirror import mirrored
from ranet_jax.files.paths import Path, as_path, exists, is_dir, list_files, resolved
from ranet_jax.inference.model import Model
from ranet_jax.pipeline.images import is_hidden, read_image


@dataclass(frozen=True)
class Format:
    """What a server expects.

    Attributes:
      class_names: categories that the model scores, in their order.
      image: pattern of an image file's name; its first group is the name of the label file.
      suffix: end of the label file's name.
      encode: maps the model's label map to the values in the label file.
      num_images: number of images in the split that the server scores.
    """

    class_names: tuple[str, ...]
    image: re.Pattern[str]
    suffix: str
    encode: Callable[[UInt8[np.ndarray, "H W"]], UInt8[np.ndarray, "H W"]]
    num_images: int


FORMATS = {
    # Single-channel PNGs of ids named CITY_123456_123456*.png, at the root of the archive.
    "cityscapes": Format(
        class_names=tuple(label.name for label in cityscapes.TRAINED),
        image=re.compile(r"([a-z-]+_\d{6}_\d{6})_leftImg8bit\.png"),
        suffix="_labelIds.png",
        encode=cityscapes.to_ids,
        num_images=1525,
    )
}
# File in the directory of label images that says which model made them.
MODEL = "model.json"


def write_submission(
    model: Model, name: str, paths: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]
) -> int:
    """Predict a benchmark's images and pack the labels into an archive for its server.

    The label images are collected in a directory named as OUTPUT without `.zip`; for an archive on
    an object store they are sent there together at the end, also if the work is interrupted. Work
    that was cut off continues when it is started again with the same model; the archive appears
    when all images are there.

    Args:
      model: segmenter of the benchmark's categories.
      name: name of the benchmark, a key of `FORMATS`.
      paths: image files, and directories that hold them at any depth.
      output: new file, .zip.

    Returns:
      Number of images in the archive.

    Raises:
      UserError: the model's categories or an image's name are not the benchmark's, an image cannot
        be read, or the output exists or belongs to another model.
    """
    wanted = FORMATS[name]
    archive = as_path(output)
    if archive.suffix != ".zip":
        raise UserError(f"{archive} does not end in .zip; name the archive to submit.")
    if exists(archive):
        raise UserError(f"{archive} exists already; choose another file.")
    if model.dataset.class_names != wanted.class_names:
        raise UserError(
            f"The model scores the classes of {model.dataset.name!r}"
            f" ({', '.join(model.dataset.class_names)}), but {name} expects"
            f" {', '.join(wanted.class_names)}; use a model trained on {name}."
        )
    images = _find_images(wanted, name, paths)
    directory = archive.with_suffix("")
    try:
        with mirrored(directory) as mirror:
            _claim(mirror.local, model)
            missing = {t: image for t, image in images.items() if not (mirror.local / t).exists()}
            done = len(images) - len(missing)
            for target, image in track(
                missing.items(), total=len(images), initial=done, unit="image", desc="predict"
            ):
                _predict(model, wanted, image, mirror.local / target)
            _pack(mirror.local, list(images), archive)
    except OSError as error:
        raise UserError(
            f"{directory} or {archive} cannot be written ({reason(error)}); make room or choose"
            " another file."
        ) from error
    return len(images)


def _find_images(
    wanted: Format, name: str, paths: Sequence[str | os.PathLike[str]]
) -> dict[str, Path]:
    """Images by the names of their label files."""
    images: dict[str, Path] = {}
    for path in map(as_path, paths):
        inside = [path]
        if is_dir(path):
            inside = [p for p in list_files(path) if p.suffix == ".png" and not is_hidden(p.name)]
        if not inside:
            raise UserError(f"Directory {path} holds no .png image; name another.")
        for file in inside:
            match = wanted.image.fullmatch(file.name)
            if match is None:
                raise UserError(
                    f"{file} is not named like the images of {name}, such as"
                    " berlin_000000_000019_leftImg8bit.png; leave it out."
                )
            target = match[1] + wanted.suffix
            if resolved(images.setdefault(target, file)) != resolved(file):
                raise UserError(f"{images[target]} and {file} are the same image; leave one out.")
    return images


def _claim(directory: pathlib.Path, model: Model) -> None:
    """Make the directory of label images, or check that it belongs to this model."""
    settings = dataclasses.asdict(model.settings)
    key = fingerprint(model.variables, config_to_json(model.config), settings)
    if directory.exists() and any(not p.name.startswith(".") for p in directory.iterdir()):
        if not (directory / MODEL).is_file() or read_json(directory / MODEL) != {"sha256": key}:
            raise UserError(
                f"{directory} is from another model or other settings; choose another output."
            )
        return
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / MODEL, {"sha256": key})


def _predict(model: Model, wanted: Format, image: Path, target: pathlib.Path) -> None:
    labels = model.predict(read_image(image), with_regions=False).labels
    with replacing(target) as partial:
        Image.fromarray(wanted.encode(labels)).save(partial, "png")


def _pack(directory: pathlib.Path, names: Sequence[str], archive: Path) -> None:
    """Write the archive, whole or not at all; PNGs are compressed already."""
    with replacing(archive) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(names):
            file.write(directory / name, name)
