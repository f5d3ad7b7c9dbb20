"""What mmsegmentation's checkpoints say about their network besides its weights, under "meta"."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import DatasetMetadata, default_color


@dataclass(frozen=True)
class Description:
    """What a file says about its network; a field is empty or None if the file says nothing.

    Attributes:
      class_names: names of the categories.
      palette: their colours, as the file has them.
      config: text of the config it was trained with.
    """

    class_names: tuple[str, ...] = ()
    palette: Any = None
    config: str | None = None

    def dataset(self, name: str, num_classes: int | None) -> DatasetMetadata | None:
        """The categories and their colours, if there are as many as a classifier has.

        Invalid colours, or another number of colours, are replaced by `default_color`.

        Args:
          name: name of the data set.
          num_classes: number of categories of the classifier.
        """
        if not self.class_names or len(self.class_names) != num_classes:
            return None
        fields = {"name": name, "class_names": self.class_names, "ignore_label": 255}
        try:
            return DatasetMetadata.from_json(fields | {"palette": self.palette})
        except UserError:
            numbers = range(len(self.class_names))
            return DatasetMetadata(name, self.class_names, tuple(map(default_color, numbers)))


def describe(found: Any) -> Description:
    """What the content of a file of weights says about its network.

    In versions 1.x "dataset_meta" holds "classes" and "palette", and "cfg" the text of the config;
    in 0.x they are "CLASSES", "PALETTE" and "config".
    """
    meta = found.get("meta") if isinstance(found, Mapping) else None
    if not isinstance(meta, Mapping):
        return Description()
    dataset = meta.get("dataset_meta")
    newer = dataset if isinstance(dataset, Mapping) else {}
    classes = newer.get("classes", meta.get("CLASSES"))
    palette = newer.get("palette", meta.get("PALETTE"))
    text = meta.get("cfg", meta.get("config"))
    return Description(_names(classes), palette, text if isinstance(text, str) else None)


def _names(classes: Any) -> tuple[str, ...]:
    if not isinstance(classes, list | tuple):
        return ()
    names = tuple(name for name in classes if isinstance(name, str) and name.isprintable())
    return names if len(names) == len(classes) else ()
