"""The description of a prepared data set: class names, palette and ignore label."""

import dataclasses
import itertools
from typing import Any

from ranet_jax.errors import UserError

IGNORE_LABEL = 255


@dataclasses.dataclass(frozen=True)
class DatasetMetadata:
    """Class names, palette (RGB, 0..255) and ignore label of a segmentation data set.

    Raises:
      UserError: there is not one colour for each class, or a colour or label is not in 0..255.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_label: int = IGNORE_LABEL

    def __post_init__(self) -> None:
        if len(self.palette) != len(self.class_names):
            raise UserError(
                f"The description of data set {self.name!r} has {len(self.class_names)} class names"
                f" but {len(self.palette)} colours in its palette; give each class one colour."
            )

        for value in (*itertools.chain(*self.palette), self.ignore_label):
            if not 0 <= value <= 255:
                raise UserError(
                    f"The description of data set {self.name!r} has the colour or label {value};"
                    " choose 0 to 255."
                )

    @property
    def num_classes(self) -> int:
        """Number of categories, without the ignore label."""
        return len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary that `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> "DatasetMetadata":
        """Rebuild from the dictionary of `to_json`, with tuples restored from JSON lists.

        Raises:
          UserError: a field is missing or malformed.
        """
        try:
            return cls(
                name=str(fields["name"]),
                class_names=tuple(str(name) for name in fields["class_names"]),
                palette=tuple((int(r), int(g), int(b)) for r, g, b in fields["palette"]),
                ignore_label=int(fields["ignore_label"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"The description of a data set is malformed ({error!r}); give it a name, class"
                " names, a palette of RGB triples and an ignore label."
            ) from error


def default_color(number: int) -> tuple[int, int, int]:
    """Colour of a class in PASCAL VOC's map, which spreads the bits of the number over R, G and B.

    Bits 0, 1, 2 of the number become the highest bits of R, G, B, bits 3, 4, 5 the next, and so on.

        0 (0, 0, 0)   1 (128, 0, 0)   2 (0, 128, 0)   3 (128, 128, 0)   4 (0, 0, 128)   8 (64, 0, 0)
    """
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(8))
        for channel in range(3)
    )
    return red, green, blue


def numbered_classes(name: str, num_classes: int) -> DatasetMetadata:
    """Description of a data set for which only the number of categories is known."""
    numbers = range(num_classes)
    return DatasetMetadata(
        name=name,
        class_names=tuple(f"class_{number}" for number in numbers),
        palette=tuple(default_color(number) for number in numbers),
    )
