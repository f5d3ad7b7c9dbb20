"""TFDS builder of `shapes`: scenes drawn by `scenes.py`, nothing to download."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ranet_data.info import class_metadata, segmentation_info
from ranet_data.shapes import scenes

SEED = 0
SPLIT_SIZES = {"train": 480, "val": 120}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds the splits of `shapes`, the same on every machine."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)

    def _info(self) -> tfds.core.DatasetInfo:
        return segmentation_info(self, class_metadata(scenes.CLASS_NAMES, scenes.PALETTE))

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        number = list(SPLIT_SIZES).index(split)
        for index in range(SPLIT_SIZES[split]):
            image, label = scenes.render_scene(np.random.default_rng((SEED, number, index)))
            name = f"{split}_{index:04d}"
            yield name, {"image": image, "label": label[..., None], "name": name}
