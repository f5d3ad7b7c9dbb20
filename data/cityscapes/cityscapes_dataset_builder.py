"""TFDS builder of Cityscapes, from the official archives or their unpacked folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from ranet_data.archives import File, Tree, note_count
from ranet_data.cityscapes.labels import LABELS, TRAINED, to_train_ids
from ranet_data.info import class_metadata, segmentation_info
from ranet_data.masks import labelled_example, read_mask
from ranet_jax.errors import UserError

ORIGIN = "https://www.cityscapes-dataset.com/downloads/"
LAYOUT = (
    "The source folder holds leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, and "
    "leftImg8bit_trainextra.zip and gtCoarse.zip if the coarse labels are wanted, or the folders "
    f"leftImg8bit, gtFine and gtCoarse unpacked from them; they come from {ORIGIN}."
)
IMAGE_SUFFIX = "_leftImg8bit.png"


class Split(NamedTuple):
    """A split's archives, the folder and suffix of its labels, and its official size."""

    images: str
    labels: str
    kind: str
    size: int

    @property
    def label_suffix(self) -> str:
        """Ending of the names of the label files."""
        return f"_{self.kind}_labelIds.png"


FINE = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip", "gtFine")
SPLITS = {
    "train": Split(*FINE, 2975),
    "val": Split(*FINE, 500),
    "test": Split(*FINE, 1525),
    "train_extra": Split("leftImg8bit_trainextra.zip", "gtCoarse.zip", "gtCoarse", 19998),
}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pairs images with `labelIds`, which become train ids; images keep their encoded bytes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(
            self,
            class_metadata([label.name for label in TRAINED], [label.color for label in TRAINED]),
            homepage="https://www.cityscapes-dataset.com/",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        source = Path(dl_manager.manual_dir)
        names = [name for name in SPLITS if name != "train_extra" or _has_coarse(source)]
        pairs = {name: _list_pairs(source, name) for name in names}
        return {name: self._generate_examples(pairs[name]) for name in names}

    def _generate_examples(
        self, pairs: list[tuple[str, File, File]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, image_file, label_file in pairs:
            ids = np.asarray(read_mask(label_file))
            if ids.max() >= len(LABELS):
                raise UserError(
                    f"{label_file} has label id {ids.max()}; ids go from 0 to {LABELS[-1].id}."
                )
            yield labelled_example(name, image_file, to_train_ids(ids), label_file)


def _has_coarse(source: Path) -> bool:
    """Whether the source has any part of `train_extra`."""
    _, _, kind, _ = split = SPLITS["train_extra"]
    return Tree.is_in(source, split.images, "leftImg8bit/train_extra") or Tree.is_in(
        source, split.labels, f"{kind}/train_extra"
    )


def _list_pairs(source: Path, name: str) -> list[tuple[str, File, File]]:
    """Name, image and label of each example in order; UserError if one lacks its counterpart."""
    split = SPLITS[name]
    images = Tree(source, split.images, f"leftImg8bit/{name}", ORIGIN)
    labels = Tree(source, split.labels, f"{split.kind}/{name}", ORIGIN)
    stems = sorted({*images.stems(IMAGE_SUFFIX), *labels.stems(split.label_suffix)})
    pairs = [
        (
            stem.rsplit("/", 1)[-1],
            images[f"{stem}{IMAGE_SUFFIX}"],
            labels[f"{stem}{split.label_suffix}"],
        )
        for stem in stems
    ]
    note_count(f"Split {name}", len(pairs), "images", split.size)
    return pairs
