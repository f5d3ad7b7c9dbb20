"""Pairs of images and masks of a folder, and the splits that they belong to."""

import hashlib
import sys
import unicodedata
from pathlib import Path
from typing import NamedTuple

from ranet_data.archives import files_under, read_lines
from ranet_data.folder.classes import FORM
from ranet_jax.errors import UserError

SPLITS = ("train", "val", "test")  # the last may be absent
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LAYOUT = (
    "The source folder holds images/train and images/val, and images/test if there is such a "
    f"split ({', '.join(IMAGE_SUFFIXES)}), the folders masks/train, masks/val and masks/test with "
    "a .png of the same name for each image, and "
    f"classes.json, {FORM}; classes.json may be left out if all masks are PNGs with a palette. "
    "Instead of folders for the splits, splits/train.txt and splits/val.txt may list the names of "
    "the files in images/ and masks/, or --val-fraction may give the fraction of them for val."
)


class Pair(NamedTuple):
    """An example: its name, and the files of its image and of its mask."""

    name: str
    image: Path
    mask: Path


def list_splits(source: Path, val_fraction: float | None, seed: int) -> dict[str, list[Pair]]:
    """Pairs of each split, in the order of their names.

    The splits are folders of images/ and masks/, or lists in splits/. If `val_fraction` is given,
    the split of a pair depends only on its name and `seed`, so that files added later do not move
    others to another split.

    Raises UserError if a file or split is missing, or if they contradict one another.
    """
    lists = source / "splits"
    divided = [source / "images" / split for split in SPLITS]
    if val_fraction is not None:
        for path in (lists, *divided):
            if path.exists():
                raise UserError(
                    f"{path} divides the source already; remove it, or give no fraction."
                )
        return _draw(_pairs(source, ""), val_fraction, seed, source)
    if lists.is_dir():
        return _by_lists(lists, _pairs(source, ""))
    for split in SPLITS[:2]:
        for kind in ("images", "masks"):
            if not (source / kind / split).is_dir():
                raise UserError(
                    f"{source / kind / split} is missing; divide images/ and masks/ into the"
                    " folders train and val, list names in splits/train.txt and splits/val.txt, or"
                    " give a fraction of the images for val."
                )
    present = [s for s in SPLITS if any((source / k / s).is_dir() for k in ("images", "masks"))]
    return {split: list(_pairs(source, split).values()) for split in present}


def _draw(
    pairs: dict[str, Pair], val_fraction: float, seed: int, source: Path
) -> dict[str, list[Pair]]:
    """Train and val, drawn by a hash of each name."""
    drawn: dict[str, list[Pair]] = {"train": [], "val": []}
    for name, pair in pairs.items():
        digest = hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        drawn["val" if share < val_fraction else "train"].append(pair)
    for split, members in drawn.items():
        if not members:
            raise UserError(
                f"The fraction {val_fraction} for val leaves none of the {len(pairs)} images in"
                f" {source / 'images'} for {split}; choose another fraction or seed."
            )
    return drawn


def _by_lists(lists: Path, pairs: dict[str, Pair]) -> dict[str, list[Pair]]:
    """Pairs of each split, as its list names them."""
    splits: dict[str, list[Pair]] = {}
    first: dict[str, Path] = {}
    for split in SPLITS:
        listing = lists / f"{split}.txt"
        if not listing.is_file():
            if split in SPLITS[:2]:
                raise UserError(f"{listing} is missing; list the names of images there.")
            continue
        names = [_example_name(Path(line.strip())) for line in read_lines(listing)]
        for name in names:
            if name not in pairs:
                raise UserError(
                    f"{listing} names {name!r}, which is not an image; correct the line."
                )
            if name in first:
                raise UserError(f"{listing} names {name!r}, as does {first[name]}; name it once.")
            first[name] = listing
        if not names:
            raise UserError(f"{listing} names no images; add some or remove the file.")
        splits[split] = [pairs[name] for name in sorted(names)]
    if len(first) < len(pairs):
        print(f"{len(pairs) - len(first)} images are in none of the lists.", file=sys.stderr)
    return splits


def _pairs(source: Path, split: str) -> dict[str, Pair]:
    """Examples of a split by name, in order; UserError if an image or mask has no counterpart."""
    folder = source / "images" / split
    images = _files_by_name(folder, IMAGE_SUFFIXES)
    masks = _files_by_name(source / "masks" / split, (".png",))
    for name in sorted(images.keys() ^ masks.keys()):
        if name in images:
            expected = source / "masks" / split / f"{name}.png"
            others = sorted(p.name for p in expected.parent.glob("*") if p.stem == expected.stem)
            there = f" ({others[0]} is there, but masks are PNG files)" if others else ""
            raise UserError(f"Image {images[name]} has no mask {expected}{there}; add it.")
        raise UserError(
            f"Mask {masks[name]} has no image {folder / name} with one of the extensions"
            f" {', '.join(IMAGE_SUFFIXES)}; add it."
        )
    if not images:
        raise UserError(
            f"{folder} holds no images; add some with one of the extensions"
            f" {', '.join(IMAGE_SUFFIXES)}."
        )
    return {name: Pair(name, images[name], masks[name]) for name in sorted(images)}


def _files_by_name(root: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files with some suffixes, by the names of their examples; UserError if two share a name."""
    files: dict[str, Path] = {}
    for path in files_under(root):
        if path.suffix.lower() in suffixes:
            name = _example_name(path.relative_to(root))
            if name in files:
                raise UserError(f"{files[name]} and {path} share a name; rename or remove one.")
            files[name] = path
    return files


def _example_name(path: Path) -> str:
    """Path without the suffix of an image, in Unicode's form NFC, which composes accents."""
    known = path.suffix.lower() in IMAGE_SUFFIXES
    return unicodedata.normalize("NFC", (path.with_suffix("") if known else path).as_posix())
