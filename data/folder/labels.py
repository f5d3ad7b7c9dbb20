"""Masks of a folder as categories: from class numbers, or from the colours of `classes.json`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from ranet_data.folder.classes import Classes, Color, Palettes, drawn_colors
from ranet_data.masks import load_mask
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL


def read_label(path: Path, classes: Classes, palettes: Palettes) -> np.ndarray:
    """Categories uint8 [H, W] of a mask, which holds class numbers or draws them in colours.

    If `classes` has colours, they decide the meaning of an indexed mask, since an optimiser of PNG
    files may have exchanged its numbers. If it has none, all indexed masks must agree on their
    colours in `palettes`.

    Raises UserError if the mask is damaged, or holds a number or a colour of no class.
    """
    mask = load_mask(path)
    if mask.mode in ("RGB", "RGBA") and classes.colors is not None:
        colors = dict(zip(classes.colors, classes.categories, strict=True))
        return _of_colors(_opaque(mask, path), colors, path, palettes.classes_file)
    if mask.mode not in ("L", "P"):
        raise UserError(
            f"{path} is not an image of one channel of eight bits (its mode is {mask.mode}); save"
            " the class numbers as a grey or indexed PNG, or give each class its colour in"
            f" {palettes.classes_file} and save the colours as RGB."
        )
    numbers = np.asarray(mask)
    if mask.mode == "P" and classes.colors is None:
        palettes.add(mask, path)
    elif mask.mode == "P" and not _agrees(drawn := drawn_colors(mask, path), classes):
        colors = dict(zip(classes.colors, classes.categories, strict=True))
        return _of_palette(numbers, drawn, colors, path, palettes.classes_file)

    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[: len(classes.categories)] = classes.categories
    wrong = numbers[(numbers >= len(classes.categories)) & (numbers != IGNORE_LABEL)]
    if wrong.size:
        raise UserError(
            f"{path} has value {wrong.max()}; values go from 0 to {len(classes.categories) - 1}, "
            f"and {IGNORE_LABEL} marks pixels to ignore."
        )
    return table[numbers]


def _agrees(drawn: dict[int, Color], classes: Classes) -> bool:
    """Whether an indexed mask draws each class number in the colour of that class."""
    return all(
        number == IGNORE_LABEL or classes.colors[number : number + 1] == (color,)
        for number, color in drawn.items()
    )


def _of_palette(
    numbers: np.ndarray,
    drawn: dict[int, Color],
    colors: dict[Color, int],
    path: Path,
    classes_file: Path,
) -> np.ndarray:
    """Categories of an indexed mask by the colours of its palette.

    The number 255 is ignored unless its colour is that of a class.
    """
    table = np.full(256, IGNORE_LABEL, np.uint8)
    for number, color in drawn.items():
        if color in colors:
            table[number] = colors[color]
        elif number != IGNORE_LABEL:
            _refuse_color(color, int((numbers == number).sum()), path, classes_file)
    return table[numbers]


def _of_colors(
    rgb: np.ndarray, colors: dict[Color, int], path: Path, classes_file: Path
) -> np.ndarray:
    """Categories of a mask uint8 [H, W, 3] that draws each class in its colour."""
    known = np.array(sorted(map(_code, colors)))
    categories = {_code(color): category for color, category in colors.items()}
    codes = _code(np.moveaxis(rgb.astype(np.int64), -1, 0))
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    unknown = codes[known[places] != codes]
    if unknown.size:
        values, counts = np.unique(unknown, return_counts=True)
        code = int(values[counts.argmax()])
        color = (code >> 16, code >> 8 & 255, code & 255)
        _refuse_color(color, int(counts.max()), path, classes_file)
    return np.array([categories[code] for code in known.tolist()], np.uint8)[places]


def _code(color: Iterable[Any]) -> Any:
    """A colour, or planes of red, green and blue, as one number."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _refuse_color(color: Color, pixels: int, path: Path, classes_file: Path) -> NoReturn:
    raise UserError(
        f"{path} has {pixels} pixels of colour {color}, which is not in {classes_file}; add it"
        ' there, with "ignore": true if it is not to be learned, or correct the mask.'
    )


def _opaque(mask: Image.Image, path: Path) -> np.ndarray:
    """Colours uint8 [H, W, 3] of a mask; UserError if some pixels are not opaque."""
    values = np.asarray(mask)
    if mask.mode == "RGBA" and (clear := int((values[..., 3] < 255).sum())):
        raise UserError(
            f"{path} is transparent in {clear} pixels, which look different from their colour in"
            " the file; save the mask without transparency."
        )
    return values[..., :3]
