"""What a prepared data set says of itself: class names, palette and ignore label."""

import dataclasses
from typing import Any

IGNORE_LABEL = 255


@dataclasses.dataclass(frozen=True)
class DatasetMetadata:
    """Class names, palette (RGB, 0..255) and ignore label of a segmentation data set."""

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_label: int = IGNORE_LABEL

    @property
    def num_classes(self) -> int:
        """Number of categories, the ignore label not counted."""
        return len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary that `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "DatasetMetadata":
        """Rebuild from `to_json`'s dictionary, tuples restored from JSON lists."""
        red_green_blue = [(int(r), int(g), int(b)) for r, g, b in fields["palette"]]
        return cls(
            name=str(fields["name"]),
            class_names=tuple(str(name) for name in fields["class_names"]),
            palette=tuple(red_green_blue),
            ignore_label=int(fields["ignore_label"]),
        )
