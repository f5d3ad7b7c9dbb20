"""Parts that all data sets share: image, label map and name of an example; classes and colours."""

from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from ranet_jax.pipeline.metadata import IGNORE_LABEL


def segmentation_info(
    builder: tfds.core.DatasetBuilder,
    classes: dict[str, Any] | None = None,
    homepage: str | None = None,
) -> tfds.core.DatasetInfo:
    """Description of a data set of images and label maps of the same size.

    `classes` is the result of `class_metadata`; a builder that reads the classes from its source
    adds them to `info.metadata` later.
    """
    return builder.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                "name": tfds.features.Text(),
            }
        ),
        supervised_keys=("image", "label"),
        homepage=homepage,
        metadata=tfds.core.MetadataDict(classes or {}),
    )


def class_metadata(class_names: Sequence[str], palette: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Metadata of a data set: classes by number, their RGB colours, and the ignored label."""
    return {
        "class_names": list(class_names),
        "palette": list(palette),
        "ignore_label": IGNORE_LABEL,
    }
