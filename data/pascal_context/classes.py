"""The 59 categories of PASCAL Context among its 459 classes, by the names in the two lists."""

import re
from collections.abc import Mapping

import numpy as np

from ranet_data.archives import File, read_lines
from ranet_jax.errors import UserError

BACKGROUND = "background"
# Names of three classes in the list of 59, with their names in the list of 459.
SYNONYMS = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


def read_names(file: File) -> dict[int, str]:
    """Names by number, from lines like `2: aeroplane`; UserError on lines of another form."""
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
    """Number among all classes of each chosen class of `file`; UserError if one is not found."""
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
    """Table uint8 [size]: `numbers` map to `first`, `first` + 1, ...; the rest to `background`."""
    table = np.full(size, background, np.uint8)
    table[numbers] = np.arange(first, first + len(numbers))
    return table
