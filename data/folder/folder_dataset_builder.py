"""TFDS builder of any folder of images and of masks of class numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ranet_data.archives import files_under
from ranet_data.folder import classes
from ranet_data.info import class_metadata, segmentation_info
from ranet_data.masks import labelled_example, read_mask
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL

SPLITS = ("train", "val", "test")  # the last may be absent
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LAYOUT = (
    "The source folder holds images/train and images/val, and images/test if there is such a "
    f"split ({', '.join(IMAGE_SUFFIXES)}), the folders masks/train, masks/val and masks/test with "
    "a .png of class numbers under the same name for each image (255 is ignored), and "
    f"classes.json, {classes.FORM}; it may be left out if all masks are PNGs with a palette."
)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pairs images with masks, as they are shown upright."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        source = Path(dl_manager.manual_dir)
        pairs = {split: _list_pairs(source, split) for split in _list_splits(source)}
        classes_file = source / "classes.json"
        if classes_file.exists():
            found = classes.read_classes(classes_file)
        else:
            masks = (mask for split in pairs.values() for _, _, mask in split)
            found = classes.classes_of_palettes(masks, classes_file)
        self.info.metadata.update(class_metadata(found.names, found.palette))
        return {split: self._generate_examples(split, pairs[split]) for split in pairs}

    def _generate_examples(
        self, split: str, pairs: list[tuple[str, Path, Path]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        names = self.info.metadata["class_names"]
        present: set[int] = set()
        for name, image_path, mask_path in pairs:
            label = np.asarray(read_mask(mask_path))
            values = set(np.unique(label).tolist()) - {IGNORE_LABEL}
            if max(values, default=0) >= len(names):
                raise UserError(
                    f"{mask_path} has value {max(values)}; values go from 0 to {len(names) - 1}, "
                    f"or are {IGNORE_LABEL} where the class is to be ignored."
                )
            present |= values
            yield labelled_example(name, image_path, label, mask_path, upright=True)
        if split == "train" and len(present) < 2:
            raise UserError(
                f"The masks in {pairs[0][2].parent} have "
                f"{' and '.join(f'no class but {names[n]!r}' for n in present) or 'no class'}; "
                f"a mask holds class numbers from 0, and {IGNORE_LABEL} is ignored."
            )


def _list_splits(source: Path) -> list[str]:
    """Splits that the source has; UserError if it has no train or no val."""
    for split in SPLITS[:2]:
        for kind in ("images", "masks"):
            if not (source / kind / split).is_dir():
                raise UserError(f"{source / kind / split} is missing. {LAYOUT}")
    return [
        split for split in SPLITS if any((source / k / split).is_dir() for k in ("images", "masks"))
    ]


def _list_pairs(source: Path, split: str) -> list[tuple[str, Path, Path]]:
    """Name, image and mask of each example in order; UserError if one lacks its counterpart."""
    images = _list_files(source / "images" / split, IMAGE_SUFFIXES)
    masks = _list_files(source / "masks" / split, (".png",))
    for name in sorted(images.keys() ^ masks.keys()):
        if name in images:
            expected = source / "masks" / split / f"{name}.png"
            raise UserError(f"Image {images[name]} has no mask {expected}; add it.")
        raise UserError(
            f"Mask {masks[name]} has no image {source / 'images' / split / name} with one of the "
            f"extensions {', '.join(IMAGE_SUFFIXES)}; add it."
        )
    if not images:
        raise UserError(f"{source / 'images' / split} holds no images. {LAYOUT}")
    return [(name, images[name], masks[name]) for name in sorted(images)]


def _list_files(root: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files of some suffixes, by relative path without suffix; UserError if two share that."""
    files: dict[str, Path] = {}
    for path in files_under(root):
        if path.suffix.lower() in suffixes:
            name = path.relative_to(root).with_suffix("").as_posix()
            if name in files:
                raise UserError(f"{files[name]} and {path} share a name; rename or remove one.")
            files[name] = path
    return files
