"""TFDS builder of `shapes`: scenes drawn by `scenes.py`, nothing to download."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ranet_data.shapes import scenes

SEED = 0
SPLIT_SIZES = {"train": 480, "val": 120}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds the splits of `shapes`, the same on every machine."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(
                class_names=scenes.CLASS_NAMES, palette=scenes.PALETTE, ignore_label=255
            ),
        )

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
