"""TFDS builder of Cityscapes from the official archives or their unpacked folders."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from ranet_data.archives import Download
from ranet_data.cityscapes.labels import CLASSES, NUM_IDS, to_train_ids
from ranet_data.masks import check_same_size, decode_image, decode_mask

from ranet_jax.dataset import IGNORE_LABEL
from ranet_jax.errors import UserError

HOMEPAGE = "https://www.cityscapes-dataset.com"
LAYOUT = (
    "The source folder holds leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, or the "
    "folders leftImg8bit and gtFine they unpack to; with leftImg8bit_trainextra.zip and "
    "gtCoarse.zip besides (or train_extra in the folders leftImg8bit and gtCoarse), there is a "
    "split train_extra."
)


class Part(NamedTuple):
    """A split: where its images and labels are, and what the names of the labels hold."""

    images: Download
    labels: Download
    annotation: str  # gtFine or gtCoarse


class Builder(tfds.core.GeneratorBasedBuilder):
    """Pairs images with their label ids; images keep their encoded bytes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain dict)
    MANUAL_DOWNLOAD_INSTRUCTIONS = LAYOUT
    OFFICIAL_COUNTS = MappingProxyType(
        {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    )

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
            homepage=HOMEPAGE,
            metadata=tfds.core.MetadataDict(
                class_names=list(CLASSES),
                palette=[color for _, color in CLASSES.values()],
                ignore_label=IGNORE_LABEL,
            ),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        parts = _parts(Path(dl_manager.manual_dir))
        pairs = {split: _list_pairs(split, part) for split, part in parts.items()}
        return {split: self._generate_examples(parts[split], pairs[split]) for split in parts}

    def _generate_examples(
        self, part: Part, pairs: list[tuple[str, str, str]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, image_name, label_name in pairs:
            image_path, label_path = part.images.path / image_name, part.labels.path / label_name
            encoded = part.images.read(image_name)
            mask = decode_mask(part.labels.read(label_name), label_path)
            check_same_size(decode_image(encoded, image_path), image_path, mask, label_path)
            ids = np.asarray(mask)
            if ids.max() >= NUM_IDS:
                raise UserError(
                    f"{label_path} has value {ids.max()}; ids go from 0 to {NUM_IDS - 1}."
                )
            yield name, {"image": encoded, "label": to_train_ids(ids)[..., None], "name": name}


def _parts(source: Path) -> dict[str, Part]:
    """The splits that the source has; UserError if an archive is missing."""
    images = Download(source, "leftImg8bit_trainvaltest.zip", "leftImg8bit", HOMEPAGE)
    fine = Download(source, "gtFine_trainvaltest.zip", "gtFine", HOMEPAGE)
    parts = {split: Part(images, fine, "gtFine") for split in ("train", "val", "test")}
    extra = ("leftImg8bit_trainextra.zip", "leftImg8bit/train_extra")
    coarse = ("gtCoarse.zip", "gtCoarse")
    if Download.exists(source, *extra) or Download.exists(source, *coarse):
        parts["train_extra"] = Part(
            Download(source, *extra, HOMEPAGE), Download(source, *coarse, HOMEPAGE), "gtCoarse"
        )
    return parts


def _list_pairs(split: str, part: Part) -> list[tuple[str, str, str]]:
    """Name, image and label of each example in order; UserError if one lacks its counterpart."""
    place = rf"{split}/(?P<city>[a-z-]+)/(?P<name>(?P=city)_\d{{6}}_\d{{6}})"
    annotation = part.annotation
    images = {
        m["name"]: m[0] for m in part.images.matching(rf"leftImg8bit/{place}_leftImg8bit.png")
    }
    labels = {
        m["name"]: m[0]
        for m in part.labels.matching(rf"{annotation}/{place}_{annotation}_labelIds.png")
    }
    if not images:
        raise UserError(f"{part.images.path} holds no image of split {split}. {LAYOUT}")
    for name in sorted(images.keys() ^ labels.keys()):
        found, lacking = ("image", part.labels) if name in images else ("label", part.images)
        raise UserError(
            f"The {found} of {name} has no counterpart in {lacking.path}; download it again from"
            f" {HOMEPAGE}."
        )
    return [(name, images[name], labels[name]) for name in sorted(images)]
