"""TFDS builder of PASCAL Context, from the official archives or their unpacked folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ranet_data.archives import File, Tree, note_count, read_list
from ranet_data.info import class_metadata, segmentation_info
from ranet_data.masks import labelled_example, read_matlab_labels
from ranet_data.pascal_context import classes
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL, default_color

IMAGES = "VOCtrainval_03-May-2010.tar"
IMAGES_ORIGIN = "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"
LABELS = "trainval.tar.gz"
LABELS_ORIGIN = "https://cs.stanford.edu/~roozbeh/pascal-context/"
ALL_CLASSES, CLASSES = "labels.txt", "59_labels.txt"
SIZES = {"train": 4998, "val": 5105}
LAYOUT = (
    f"The source folder holds {IMAGES}, which comes from {IMAGES_ORIGIN}, or the folder "
    f"VOCdevkit/VOC2010 unpacked from it, and {LABELS} or the folder trainval unpacked from it, "
    f"{ALL_CLASSES} and {CLASSES}, which come from {LABELS_ORIGIN}."
)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pairs images with maps of 459 classes, 59 of which are kept; images keep their bytes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT
    HAS_BACKGROUND = False  # whether it is category 0, before the 59; else it is ignored

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, homepage=LABELS_ORIGIN)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        source = Path(dl_manager.manual_dir)
        folders = ("VOCdevkit/VOC2010", "VOC2010")
        images = Tree(source, IMAGES, folders[0], IMAGES_ORIGIN, folders)
        labels = Tree(source, LABELS, "trainval", LABELS_ORIGIN)
        table = self._read_classes(source, labels)
        pairs = {}
        for split, size in SIZES.items():
            stems = read_list(images, f"ImageSets/Main/{split}.txt")
            pairs[split] = [
                (stem, images[f"JPEGImages/{stem}.jpg"], labels[f"{stem}.mat"]) for stem in stems
            ]
            note_count(f"Split {split}", len(stems), "images", size)
        return {split: self._generate_examples(pairs[split], table) for split in pairs}

    def _generate_examples(
        self, pairs: list[tuple[str, File, File]], table: np.ndarray
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, image_file, label_file in pairs:
            numbers = read_matlab_labels(label_file, "LabelMap")
            wrong = numbers[(numbers < 0) | (numbers >= len(table))]
            if wrong.size:
                raise UserError(
                    f"{label_file} has class {wrong[0]}; {ALL_CLASSES} goes up to {len(table) - 1}."
                )
            yield labelled_example(name, image_file, table[numbers], label_file)

    def _read_classes(self, source: Path, labels: Tree) -> np.ndarray:
        """Category uint8 of each of the 459 classes and of 0; fills in the metadata."""
        all_classes, chosen = (_find_list(source, labels, name) for name in (ALL_CLASSES, CLASSES))
        all_names, names = classes.read_names(all_classes), classes.read_names(chosen)
        names = {n: names[n] for n in sorted(names) if names[n] != classes.BACKGROUND}
        note_count(str(all_classes), len(all_names), "classes", 459)
        note_count(str(chosen), len(names), "classes", 59)
        numbers = classes.match_names(all_names, names, chosen)
        with_background = [classes.BACKGROUND, *names.values()]
        first = int(self.HAS_BACKGROUND)
        palette = [default_color(n) for n in range(1 - first, len(with_background))]
        self.info.metadata.update(class_metadata(with_background[1 - first :], palette))
        background = 0 if self.HAS_BACKGROUND else IGNORE_LABEL
        return classes.category_table(numbers, max(all_names) + 1, first, background)


def _find_list(source: Path, labels: Tree, name: str) -> File:
    """List of classes, in the source or among the labels; UserError if it is missing."""
    if (source / name).is_file():
        return source / name
    if name in labels.files:
        return labels[name]
    raise UserError(f"{source / name} is missing; download it from {LABELS_ORIGIN}.")
