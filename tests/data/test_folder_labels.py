"""The meaning of masks: class numbers, or colours that tools and optimisers have reordered."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from helpers.folder_source import examples_of, make_source
from helpers.images import deep_png, saved
from ranet_jax.cli import main
from ranet_jax.pipeline.metadata import IGNORE_LABEL

pytestmark = pytest.mark.slow

SIZES = {"train/a.png": (8, 10), "train/b.png": (8, 10), "val/c.png": (6, 7)}
COLORS = [(0, 0, 0), (128, 64, 128), (70, 130, 180), (255, 255, 255)]
NAMES = ["ground", "road", "sky", "void"]
ENTRIES = [{"name": n, "color": list(c)} for n, c in zip(NAMES, COLORS, strict=True)]
ENTRIES[3]["ignore"] = True


@pytest.fixture
def source(tmp_path):
    """Masks of the numbers 0 to 3; the last one is ignored."""
    source = make_source(tmp_path / "source", classes=ENTRIES, sizes=SIZES)
    for path in (source / "masks").rglob("*.png"):
        numbers = np.random.default_rng(len(path.stem)).integers(
            0, 4, np.asarray(Image.open(path)).shape
        )
        Image.fromarray(numbers.astype(np.uint8)).save(path)
    return source


def prepare(source, *options):
    data_dir = source.parent / "tfds"
    arguments = ["--source", str(source), "--data-dir", str(data_dir), *options]
    return main(["prepare", "folder", *arguments])


def labels(source):
    return {name: label for name, _, label in examples_of(source.parent / "tfds")}


def rewrite(source, change):
    """Save each mask of train as `change` makes it from its numbers; return the numbers."""
    numbers = {}
    for path in sorted((source / "masks" / "train").iterdir()):
        numbers[path.stem] = np.asarray(Image.open(path))
        changed = change(numbers[path.stem])
        path.write_bytes(changed) if isinstance(changed, bytes) else changed.save(path)
    return numbers


def indexed(numbers, colors=COLORS):
    mask = Image.fromarray(numbers)
    mask.putpalette([value for color in colors for value in color])
    return mask


def drawn(numbers):
    return Image.fromarray(np.array(COLORS, np.uint8)[numbers])


def quantised(numbers):
    """Drawn, then given a new palette of Pillow's choice, as optimisers of PNG files do."""
    mask = drawn(numbers).quantize(4, dither=Image.Dither.NONE)
    assert mask.getpalette()[:12] != [value for color in COLORS for value in color]
    np.testing.assert_array_equal(mask.convert("RGB"), drawn(numbers))
    return mask


def reordered(numbers):
    return indexed(numbers).remap_palette([2, 3, 1, 0])


def opaque(numbers):
    return drawn(numbers).convert("RGBA")


@pytest.mark.parametrize(
    "change",
    [Image.fromarray, indexed, quantised, reordered, drawn, opaque],
    ids=["grey", "indexed", "quantised", "reordered", "drawn", "opaque"],
)
def test_masks_mean_the_same_in_every_form(source, change):
    numbers = rewrite(source, change)
    assert prepare(source) == 0
    for name, label in labels(source).items():
        expected = np.where(numbers[name] == 3, IGNORE_LABEL, numbers[name])
        np.testing.assert_array_equal(label, expected)


def test_ignored_classes_leave_the_numbers_of_the_rest_without_a_gap(source, capsys):
    entries = ["void", "ground", "road", "sky"]
    entries[0] = {"name": "void", "ignore": True}
    (source / "classes.json").write_text(json.dumps(entries))
    numbers = rewrite(source, Image.fromarray)
    assert prepare(source) == 0
    assert "3 classes (ground, road, sky)" in capsys.readouterr().out
    for name, label in labels(source).items():
        expected = np.where(numbers[name] == 0, IGNORE_LABEL, numbers[name].astype(int) - 1)
        np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize("padding", [(0, 0, 0), (9, 9, 9)])
def test_255_is_ignored_whatever_its_colour(source, padding):
    """Palettes are often filled up with black, which may be the colour of a class."""
    numbers = rewrite(
        source,
        lambda n: indexed(np.where(n == 3, 255, n).astype(np.uint8), COLORS[:3] + [padding] * 253),
    )
    assert prepare(source) == 0
    for name, label in labels(source).items():
        np.testing.assert_array_equal(label == IGNORE_LABEL, numbers[name] == 3)


def with_pixels(color, count):
    def change(numbers):
        image = np.array(drawn(numbers))
        image.reshape(-1, 3)[:count] = color
        return Image.fromarray(image)

    return change


def half_transparent(numbers):
    image = np.array(opaque(numbers))
    image[0, :7, 3] = 128
    return Image.fromarray(image)


def jpeg_under_the_name_of_png(numbers):
    return saved(Image.fromarray(numbers), "JPEG")


WRONG = {
    "a colour of no class": (with_pixels((1, 2, 3), 5), r"has 5 pixels of colour \(1, 2, 3\)"),
    "many colours of no class": (
        lambda n: Image.fromarray(np.random.default_rng(0).integers(1, 9, (8, 10, 3), np.uint8)),
        r"has \d+ pixels of colour",
    ),
    "a palette of no class": (
        lambda n: indexed(n, [*COLORS[:2], (9, 9, 9), COLORS[3]]),
        r"has \d+ pixels of colour \(9, 9, 9\), which is not in .*classes\.json; add it",
    ),
    "transparent": (half_transparent, "is transparent in 7 pixels"),
    "16 bits": (lambda n: deep_png(np.asarray(drawn(n)).astype(np.uint16)), "holds 16-bit values"),
    "jpeg": (jpeg_under_the_name_of_png, "is in the format JPEG, not PNG"),
    "grey and alpha": (lambda n: Image.fromarray(n).convert("LA"), "its mode is LA"),
    "a number of no class": (lambda n: Image.fromarray(n + np.uint8(9)), "has value 12; values"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_masks_without_sense_are_named_and_nothing_is_left(source, kind, capsys):
    change, message = WRONG[kind]
    rewrite(source, change)
    capsys.readouterr()
    assert prepare(source) == 1
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("ranet: ")]
    assert line.startswith(f"ranet: {source / 'masks' / 'train' / 'a.png'} ")
    assert re.search(message, line)
    assert not (source.parent / "tfds").exists()


@pytest.mark.parametrize("change", [drawn, opaque])
def test_colours_need_a_file_that_gives_them(source, change, capsys):
    (source / "classes.json").write_text(json.dumps(NAMES))
    rewrite(source, change)
    assert prepare(source) == 1
    assert "give each class its colour in" in capsys.readouterr().err
    (source / "classes.json").unlink()
    assert prepare(source) == 1
    assert f"has no palette, so {source / 'classes.json'} is needed" in capsys.readouterr().err


def test_palettes_that_exchange_numbers_are_found_by_names_alone(source, capsys):
    """One mask was optimised, the other was not."""
    (source / "classes.json").write_text(json.dumps(NAMES))
    rewrite(source, indexed)
    path = source / "masks" / "train" / "b.png"
    reordered(np.asarray(Image.open(path))).save(path)
    assert prepare(source) == 1
    assert "if the colours are right, give each class its colour" in capsys.readouterr().err
