"""TFDS builder of COCO-Stuff 10k, from the official archive or its unpacked folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ranet_data.archives import File, Tree, note_count, read_list
from ranet_data.coco_stuff.labels import CLASS_NAMES, PALETTE, to_categories
from ranet_data.info import class_metadata, segmentation_info
from ranet_data.masks import labelled_example, read_matlab_labels

ARCHIVE = "cocostuff-10k-v1.1.zip"
ORIGIN = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
LISTS = {"train": ("train.txt", 9000), "val": ("test.txt", 1000)}
LAYOUT = (
    f"The source folder holds {ARCHIVE}, which comes from {ORIGIN}, or the folders images, "
    "annotations and imageLists unpacked from it."
)

Pair = tuple[str, File, File]  # name, image and label


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pairs images with label ids, which become categories; images keep their encoded bytes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT
    FIRST_ID = 0  # the id that a label file stores as 0

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(
            self,
            class_metadata(CLASS_NAMES, PALETTE),
            homepage="https://github.com/nightrome/cocostuff",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        pairs = self._list_pairs(Path(dl_manager.manual_dir))
        return {split: self._generate_examples(pairs[split]) for split in pairs}

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, image_file, label_file in pairs:
            label = to_categories(self._read_ids(label_file), label_file, self.FIRST_ID)
            yield labelled_example(name, image_file, label, label_file)

    def _list_pairs(self, source: Path) -> dict[str, list[Pair]]:
        """Pairs of each split; UserError if a file is missing."""
        lists, images, labels = (
            Tree(source, ARCHIVE, folder, ORIGIN)
            for folder in ("imageLists", "images", "annotations")
        )
        pairs = {}
        for split, (listing, size) in LISTS.items():
            stems = read_list(lists, listing)
            pairs[split] = [(s, images[f"{s}.jpg"], labels[f"{s}.mat"]) for s in stems]
            note_count(f"Split {split}", len(stems), "images", size)
        return pairs

    def _read_ids(self, file: File) -> np.ndarray:
        """Label ids [H, W], 0 to 182."""
        return read_matlab_labels(file, "S")
