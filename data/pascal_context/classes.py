"""The 59 categories of PASCAL Context among its 459 classes, as the two lists name them."""

import re
from collections.abc import Mapping

import numpy as np

from ranet_data.archives import File, read_lines
from ranet_jax.errors import UserError

BACKGROUND = "background"
# The list of 59 calls three classes otherwise than the list of 459 does.
SYNONYMS = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


def read_names(file: File) -> dict[int, str]:
    """Names by number, from lines like `2: aeroplane`; UserError if they are of another form."""
    names = {}
    for line in read_lines(file):
        found = re.fullmatch(r"\s*(\d+)\s*:\s*(.*\S)\s*", line)
        if found is None:
            raise UserError(f"{file} has the line {line!r}; its lines are like '2: aeroplane'.")
        names[int(found[1])] = found[2]
    if not names:
        raise UserError(f"{file} names no classes; its lines are like '2: aeroplane'.")
    return names


def match_names(all_names: Mapping[int, str], chosen: Mapping[int, str], file: File) -> list[int]:
    """Number among all classes of each chosen one; UserError if that of `file` is not there."""
    numbers = {name.replace(" ", ""): number for number, name in all_names.items()}
    matched = []
    for name in chosen.values():
        key = name.replace(" ", "")
        key = key if key in numbers else SYNONYMS.get(key, key)
        if key not in numbers:
            raise UserError(f"Class {name!r} of {file} is not in labels.txt; download both again.")
        matched.append(numbers[key])
    return matched


def category_table(numbers: list[int], size: int, first: int, background: int) -> np.ndarray:
    """Table uint8 [size]: the numbers become `first`, `first` + 1, ...; all else, `background`."""
    table = np.full(size, background, np.uint8)
    table[numbers] = np.arange(first, first + len(numbers))
    return table
