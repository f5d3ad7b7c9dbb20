"""TFDS builder of any folder of images and masks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ranet_data.folder.classes import Classes, Palettes, classes_of_palettes, read_classes
from ranet_data.folder.labels import read_label
from ranet_data.folder.splits import LAYOUT, Pair, list_splits
from ranet_data.info import class_metadata, segmentation_info
from ranet_data.masks import labelled_example
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pairs images with masks; masks belong to the images as they are shown upright."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT
    VAL_FRACTION: float | None = None  # share of the images for val; None if the source splits them
    SEED = 0

    @classmethod
    def variant(cls, called: str, val_fraction: float | None, seed: int) -> type["Builder"]:
        """Builder of a data set with another name, or with randomly drawn splits."""
        base: Any = cls

        class Variant(base, skip_registration=True):  # type: ignore[call-arg]
            """The same builder for a folder with a name and splits of its own."""

            name = called
            VAL_FRACTION = val_fraction
            SEED = seed

        return Variant

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        source = Path(dl_manager.manual_dir)
        splits = list_splits(source, self.VAL_FRACTION, self.SEED)
        classes_file = source / "classes.json"
        if classes_file.exists():
            classes = read_classes(classes_file)
        else:
            masks = (pair.mask for pairs in splits.values() for pair in pairs)
            classes = classes_of_palettes(masks, classes_file)
        self.info.metadata.update(class_metadata(classes.names, classes.palette))
        palettes = Palettes(classes_file)
        return {
            split: self._generate_examples(split, pairs, classes, palettes)
            for split, pairs in splits.items()
        }

    def _generate_examples(
        self, split: str, pairs: list[Pair], classes: Classes, palettes: Palettes
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        present: set[int] = set()
        for name, image, mask in pairs:
            label = read_label(mask, classes, palettes)
            present |= set(np.unique(label).tolist()) - {IGNORE_LABEL}
            yield labelled_example(name, image, label, mask, upright=True)
        if split == "train" and len(present) < 2:
            found = " and ".join(f"only the class {classes.names[n]!r}" for n in present)
            raise UserError(
                f"The masks in {pairs[0].mask.parent} have {found or 'no class'}; "
                f"a mask holds class numbers from 0, and {IGNORE_LABEL} is ignored."
            )
