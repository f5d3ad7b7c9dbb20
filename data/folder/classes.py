"""Class names and colours of a folder: from `classes.json`, or from the palette of its masks."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ranet_data.masks import load_mask
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL, default_color

FORM = (
    'a list of class names, or of objects like {"name": "road", "color": [128, 64, 128]}, with '
    '"ignore": true where a class is not to be learned'
)

Color = tuple[int, int, int]


class Classes(NamedTuple):
    """Meaning of the numbers and colours of masks.

    Attributes:
      names: names of the categories to learn.
      palette: colour (RGB, 0..255) of each of them.
      categories: category of each class number in the masks, or the ignore label if the class is
        not to be learned.
      colors: colour of each class number in the masks; None if only the numbers count.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    categories: tuple[int, ...]
    colors: tuple[Color, ...] | None


def read_classes(path: Path) -> Classes:
    """Read `classes.json`; UserError if it does not have the right form."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); write {FORM}.") from error
    if not isinstance(entries, list) or not 2 <= len(entries) <= IGNORE_LABEL:
        raise UserError(
            f"{path} does not hold a list of 2 to {IGNORE_LABEL} classes; write {FORM}."
        )
    full = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    for number, entry in enumerate(full):
        if not _is_class(entry) or ("color" in entry) != ("color" in full[0]):
            raise UserError(
                f"Entry {number} of {path} is {json.dumps(entries[number])}, which does not fit;"
                f" write {FORM}."
            )
    names = [entry["name"] for entry in full]
    colors = tuple(tuple(entry["color"]) for entry in full if "color" in entry)
    for what, values in (("name", names), ("colour", colors)):
        value, count = Counter(values).most_common(1)[0] if values else (None, 1)
        if count > 1:
            raise UserError(f"{path} has {what} {value!r} twice; give each class its own.")

    learned = [number for number, entry in enumerate(full) if not entry.get("ignore", False)]
    if len(learned) < 2:
        raise UserError(f"{path} ignores all but {len(learned)} classes; two are needed.")
    categories = np.full(len(full), IGNORE_LABEL)
    categories[learned] = range(len(learned))
    palette = [colors[n] for n in learned] if colors else map(default_color, range(len(learned)))
    return Classes(
        tuple(names[n] for n in learned), tuple(palette), tuple(categories.tolist()), colors or None
    )


def _is_class(entry: Any) -> bool:
    if not isinstance(entry, dict) or not {"name"} <= entry.keys() <= {"name", "color", "ignore"}:
        return False
    name, color = entry["name"], entry.get("color", [0, 0, 0])
    return (
        isinstance(name, str)
        and bool(name.strip())
        and isinstance(entry.get("ignore", False), bool)
        and isinstance(color, list)
        and len(color) == 3
        and all(type(value) is int and 0 <= value <= 255 for value in color)
    )


class Palettes:
    """Colours that the palettes of masks give to class numbers; all masks must agree on them.

    Args:
      classes_file: file in which, according to messages, colours can be given instead.
    """

    def __init__(self, classes_file: Path) -> None:
        self.classes_file = classes_file
        self.colors: dict[int, Color] = {}
        self._first: dict[int, Path] = {}

    def add(self, mask: Image.Image, path: Path) -> None:
        """Add the colours of an indexed mask; UserError if a number had another colour before."""
        for number, color in drawn_colors(mask, path).items():
            known = self.colors.setdefault(number, color)
            first = self._first.setdefault(number, path)
            if number != IGNORE_LABEL and color != known:
                raise UserError(
                    f"Value {number} has colour {known} in {first} but {color} in {path}; if the"
                    f" colours are right, give each class its colour in {self.classes_file}:"
                    f" {FORM}; if the numbers are right, save the masks as grey PNGs."
                )


def drawn_colors(mask: Image.Image, path: Path) -> dict[int, Color]:
    """Colour of each number that occurs in an indexed mask; 255 may be missing in the palette.

    Raises UserError if any other number is missing in the palette.
    """
    palette = np.reshape(mask.getpalette() or [], (-1, 3)).tolist()
    numbers = np.unique(np.asarray(mask)).tolist()
    colors = {number: tuple(palette[number]) for number in numbers if number < len(palette)}
    missing = set(numbers) - colors.keys() - {IGNORE_LABEL}
    if missing:
        raise UserError(
            f"{path} has value {min(missing)}, which is not in its palette; correct the mask."
        )
    return colors


def classes_of_palettes(masks: Iterable[Path], classes_file: Path) -> Classes:
    """Classes `class_0`, `class_1`, ... up to the largest value in the masks, in their colours.

    A value that occurs in no mask gets its default colour. Raises UserError, which names
    `classes_file` as the remedy, if a mask has no palette, or if two masks give a value different
    colours.
    """
    palettes = Palettes(classes_file)
    for path in masks:
        mask = load_mask(path)
        if mask.mode != "P":
            raise UserError(f"{path} has no palette, so {classes_file} is needed: {FORM}.")
        palettes.add(mask, path)
    colors = {n: color for n, color in palettes.colors.items() if n != IGNORE_LABEL}
    if not colors:
        raise UserError(
            f"The masks hold only the value {IGNORE_LABEL}, which is ignored; draw classes in them."
        )
    numbers = range(max(colors) + 1)
    return Classes(
        tuple(f"class_{number}" for number in numbers),
        tuple(colors[n] if n in colors else default_color(n) for n in numbers),
        tuple(numbers),
        None,
    )
