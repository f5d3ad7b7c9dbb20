"""Class names and colours of a folder: from `classes.json`, or from the palette of its masks."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ranet_data.masks import read_mask
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL, default_color

FORM = 'a list of class names, or of objects like {"name": "road", "color": [128, 64, 128]}'

Color = tuple[int, int, int]


class Classes(NamedTuple):
    """Name and colour (RGB, 0..255) of each class, in the order of the class numbers."""

    names: tuple[str, ...]
    palette: tuple[Color, ...]


def read_classes(path: Path) -> Classes:
    """Read `classes.json`; UserError if it is not of the form it should have."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); write {FORM}.") from error
    if not isinstance(entries, list) or not 2 <= len(entries) <= IGNORE_LABEL:
        raise UserError(
            f"{path} does not hold a list of 2 to {IGNORE_LABEL} classes; write {FORM}."
        )
    if all(_is_name(entry) for entry in entries):
        classes = Classes(tuple(entries), tuple(map(default_color, range(len(entries)))))
    else:
        for number, entry in enumerate(entries):
            if not _is_named_color(entry):
                raise UserError(
                    f"Entry {number} of {path} is {json.dumps(entry)}, which does not fit the"
                    f" others; write {FORM}."
                )
        names = tuple(entry["name"] for entry in entries)
        classes = Classes(names, tuple(tuple(entry["color"]) for entry in entries))
    repeated = [name for name in classes.names if classes.names.count(name) > 1]
    if repeated:
        raise UserError(f"{path} names class {repeated[0]!r} twice; give each its own name.")
    return classes


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_named_color(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"name", "color"}:
        return False
    color = entry["color"]
    return (
        _is_name(entry["name"])
        and isinstance(color, list)
        and len(color) == 3
        and all(type(value) is int and 0 <= value <= 255 for value in color)
    )


def classes_of_palettes(masks: Iterable[Path], classes_file: Path) -> Classes:
    """Classes `class_0`, `class_1`, ... up to the largest value in the masks, as they colour them.

    A value that occurs in no mask gets its default colour. Raises UserError, which names
    `classes_file` as the remedy, if a mask has no palette, or colours a value unlike another one.
    """
    colors: dict[int, tuple[Color, Path]] = {}
    for path in masks:
        mask = read_mask(path)
        flat = mask.getpalette()
        if flat is None:
            raise UserError(f"{path} has no palette, so {classes_file} is needed: {FORM}.")
        palette = np.reshape(flat, (-1, 3)).tolist()
        for number in np.unique(np.asarray(mask)).tolist():
            if number == IGNORE_LABEL:
                continue
            if number >= len(palette):
                raise UserError(f"{path} has value {number}, which is not in its palette.")
            color = tuple(palette[number])
            known, first = colors.setdefault(number, (color, path))
            if color != known:
                raise UserError(
                    f"Value {number} has colour {known} in {first} but {color} in {path}; if it is "
                    f"one class in both, name the classes in {classes_file}: {FORM}."
                )
    if not colors:
        raise UserError(f"The masks hold no value but {IGNORE_LABEL}, which is ignored.")
    numbers = range(max(colors) + 1)
    return Classes(
        tuple(f"class_{number}" for number in numbers),
        tuple(colors[n][0] if n in colors else default_color(n) for n in numbers),
    )
