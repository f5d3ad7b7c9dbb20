"""TFDS builder of COCO-Stuff of COCO 2017, from the official archives or unpacked folders."""

from pathlib import Path

import numpy as np

from ranet_data.archives import File, Tree, note_count
from ranet_data.coco_stuff import coco_stuff_dataset_builder
from ranet_data.coco_stuff.coco_stuff_dataset_builder import Pair
from ranet_data.masks import read_mask

LABELS = "stuffthingmaps_trainval2017.zip"
LABELS_ORIGIN = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
IMAGES_ORIGIN = "http://images.cocodataset.org/zips/"
SIZES = {"train": 118287, "val": 5000}
LAYOUT = (
    f"The source folder holds train2017.zip and val2017.zip, which come from {IMAGES_ORIGIN}, and "
    f"{LABELS}, which comes from {LABELS_ORIGIN}; or the first two unpacked into images, the last "
    "one into annotations."
)


class Builder(coco_stuff_dataset_builder.Builder):
    """Works as the builder of COCO-Stuff 10k, with other archives."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT
    FIRST_ID = 1

    def _list_pairs(self, source: Path) -> dict[str, list[Pair]]:
        pairs = {}
        for split, size in SIZES.items():
            folder = f"{split}2017"
            images = Tree(source, f"{folder}.zip", folder, IMAGES_ORIGIN, (f"images/{folder}",))
            labels = Tree(source, LABELS, folder, LABELS_ORIGIN, (f"annotations/{folder}",))
            # Other toolboxes write maps of their own beside the official ones.
            official = {s for s in labels.stems(".png") if not s.endswith("_labelTrainIds")}
            stems = sorted({*images.stems(".jpg"), *official})
            pairs[split] = [(s, images[f"{s}.jpg"], labels[f"{s}.png"]) for s in stems]
            note_count(f"Split {split}", len(stems), "images", size)
        return pairs

    def _read_ids(self, file: File) -> np.ndarray:
        """Label ids [H, W] of a map that stores ids minus one, and unlabeled pixels as 255."""
        return (np.asarray(read_mask(file)).astype(np.int64) + self.FIRST_ID) % 256
