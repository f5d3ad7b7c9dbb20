"""Pictures of labels, and sheets of pictures."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ranet_jax.errors import UserError
from ranet_jax.inference.colors import Color, Palette, distinguishable
from ranet_jax.inference.label_png import full_palette
from ranet_jax.inference.prediction import Prediction
from ranet_jax.inference.region_pictures import (
    BOUNDARY_NOTE,
    REGION_NOTE,
    RGB,
    Picture,
    boundary_picture,
    region_caption,
    region_picture,
)
from ranet_jax.pipeline.metadata import DatasetMetadata

INK: Color = (25, 25, 25)
PAPER: Color = (255, 255, 255)
MARGIN = 8
PICTURE_WIDTH = 320  # of a sheet
MIN_COLUMN = 160
STRIPES: tuple[Color, Color] = ((90, 90, 90), (235, 235, 235))  # of pixels without a class
OVERLAY_ALPHA = 0.4


def colorize(labels: UInt8[np.ndarray, "H W"], palette: Palette) -> RGB:
    """Labels as RGB colours of the palette; the ignore label is black."""
    return full_palette(palette)[labels]


def check_alpha(alpha: float) -> None:
    """Raise `UserError` unless `alpha` is from 0 to 1."""
    if not 0 <= alpha <= 1:
        raise UserError(
            f"alpha is {alpha}; choose a number from 0 (only contours) to 1 (only labels)."
        )


def class_picture(labels: UInt8[np.ndarray, "H W"], palette: Palette) -> RGB:
    """Labels in the colours of `distinguishable(palette)`; pixels without a class are striped."""
    picture = colorize(labels, distinguishable(palette))
    rows, columns = np.nonzero(labels >= len(palette))
    stripe = max(2, round(max(labels.shape) / 80))
    picture[rows, columns] = np.array(STRIPES, np.uint8)[(rows + columns) // stripe % 2]
    return picture


def overlay(
    image: RGB, labels: UInt8[np.ndarray, "H W"], palette: Palette, alpha: float = OVERLAY_ALPHA
) -> RGB:
    """The image with its labels over it: filled with opacity `alpha`, within opaque contours.

    Labels look as in `class_picture`. Where classes meet, each side has a contour in the colour of
    its class. With an alpha of 1 the labels hide the image.
    """
    fill = class_picture(labels, palette)
    if alpha == 1:
        return fill
    blend = np.rint((1 - alpha) * image + alpha * fill).astype(np.uint8)
    reach = 1 + 2 * max(1, round(max(labels.shape) / 600))
    highest, lowest = (f(labels, reach) for f in (ndimage.maximum_filter, ndimage.minimum_filter))
    return np.where((highest != lowest)[..., None], fill, blend)


def overlay_with_legend(
    image: RGB, labels: UInt8[np.ndarray, "H W"], dataset: DatasetMetadata, alpha: float
) -> Image.Image:
    """The `overlay` at the image's size, above a legend of the classes that it shows."""
    picture = Image.fromarray(overlay(image, labels, dataset.palette, alpha))
    width = max(picture.width, MIN_COLUMN)
    legend = _legend(dataset, _values(labels), width, _Writing(max(14, width // 60)))
    below = Image.new("RGB", (width, picture.height + MARGIN // 2 + legend.height), PAPER)
    below.paste(picture, (0, 0))
    below.paste(legend, (0, below.height - legend.height))
    return below


def _values(labels: UInt8[np.ndarray, "H W"]) -> frozenset[int]:
    return frozenset(np.flatnonzero(np.bincount(labels.ravel())).tolist())


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture of a sheet, a caption above it, and a note on how to read its whole column.

    `labels` are the labels that it shows in the colours of classes.
    """

    picture: Picture
    caption: str = ""
    note: str = ""
    labels: frozenset[int] = frozenset()


def label_panel(labels: UInt8[np.ndarray, "H W"], palette: Palette) -> Panel:
    """A panel of labels alone."""
    return Panel(class_picture(labels, palette), labels=_values(labels))


def sheet_row(
    image: RGB,
    prediction: Prediction,
    palette: Palette,
    truth: UInt8[np.ndarray, "H W"] | None = None,
    region_purity: float = math.nan,
    alpha: float = 1.0,
) -> dict[str, Panel]:
    """Pictures of one image by title: itself, truth, coarse, fine, boundary and regions.

    Truth, coarse, boundary and regions are left out if there are none; the caption of the regions
    states their purity unless it is NaN. Labels lie over the image with opacity `alpha`.
    """
    row = {"image": Panel(image)}
    maps = {"truth": truth, "coarse": prediction.coarse, "fine": prediction.labels}
    for title, labels in maps.items():
        if labels is not None:
            picture = overlay(image, labels, palette, alpha)
            row[title] = Panel(picture, labels=_values(labels))
    size = _height(image.shape[:2], PICTURE_WIDTH), PICTURE_WIDTH
    return row | region_panels(image, prediction, palette, size, region_purity)


def region_panels(
    image: RGB,
    prediction: Prediction,
    palette: Palette,
    size: tuple[int, int],
    region_purity: float = math.nan,
) -> dict[str, Panel]:
    """Pictures of `size` (height, width) of boundary and regions by title, if there are any."""
    height, width = size
    panels = {}
    if prediction.boundary is not None:
        picture = Image.fromarray(boundary_picture(prediction.boundary))
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        panels["boundary"] = Panel(np.asarray(resized), note=BOUNDARY_NOTE)
    if prediction.regions is not None:
        panels["regions"] = Panel(
            region_picture(image, prediction.regions, size, palette),
            region_caption(prediction.regions, region_purity),
            REGION_NOTE,
        )
    return panels


def contact_sheet(
    rows: Sequence[Mapping[str, Panel]],
    dataset: DatasetMetadata | None = None,
    picture_width: int = PICTURE_WIDTH,
) -> Image.Image:
    """Rows of pictures under their titles and captions, a legend of what they show, and the notes.

    Columns are at least `MIN_COLUMN` pixels wide, so that their captions fit.

    Raises:
      UserError: there are no rows, or a row has other titles than the first.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise UserError("A sheet needs at least one row, and the same pictures in every row.")
    column = max(picture_width, MIN_COLUMN)
    width = MARGIN + len(rows[0]) * (column + MARGIN)
    writing = _Writing(max(14, picture_width // 40))
    titles = [writing.block(title, column) for title in rows[0]]
    strips = [_side_by_side(titles, column)]
    for row in rows:
        captions = [writing.block(panel.caption, column) for panel in row.values()]
        strips.append(_side_by_side(captions, column))
        pictures = [_fit(panel.picture, picture_width) for panel in row.values()]
        strips.append(_side_by_side(pictures, column, MARGIN))
    shown = frozenset().union(*(panel.labels for row in rows for panel in row.values()))
    if dataset is not None:
        strips.append(_legend(dataset, shown, width - 2 * MARGIN, writing))
    notes = [f"{title}: {panel.note}." for title, panel in rows[0].items() if panel.note]
    strips += [writing.block(note, width - 2 * MARGIN) for note in notes]
    return _stacked(strips, width)


def _height(shape: tuple[int, int], width: int) -> int:
    """Height of a picture of `shape` (height, width) at another width."""
    return max(1, round(shape[0] * width / shape[1]))


def _fit(picture: Picture, width: int) -> Image.Image:
    """The picture at a width: smoothed if it shrinks, with sharp pixels if it grows."""
    height = _height(picture.shape[:2], width)
    shrinks = width < picture.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    return Image.fromarray(picture).resize((width, height), method)


def _side_by_side(pictures: Sequence[Image.Image], column: int, below: int = 0) -> Image.Image:
    """Pictures in columns of one width, a margin apart, with empty paper below."""
    width = len(pictures) * (column + MARGIN) - MARGIN
    height = max(picture.height for picture in pictures) + below
    strip = Image.new("RGB", (width, height), PAPER)
    for index, picture in enumerate(pictures):
        strip.paste(picture, (index * (column + MARGIN), 0))
    return strip


def _stacked(strips: Sequence[Image.Image], width: int) -> Image.Image:
    """Strips below one another, within a margin."""
    height = 2 * MARGIN + sum(strip.height for strip in strips)
    sheet = Image.new("RGB", (width, height), PAPER)
    top = MARGIN
    for strip in strips:
        sheet.paste(strip, (MARGIN, top))
        top += strip.height
    return sheet


class _Writing:
    """Text in one font of `size` pixels."""

    def __init__(self, size: int):
        self.font = ImageFont.load_default(size)
        self.size = size
        self.line = round(1.4 * size)

    def length(self, text: str) -> int:
        """The length of a line of text in pixels."""
        return math.ceil(self.font.getlength(text))

    def block(self, text: str, width: int) -> Image.Image:
        """Text broken between words into lines of a width; an empty picture if there is no text.

        A percent sign stays with its number.
        """
        lines: list[str] = []
        for word in re.findall(r"\S+(?: %)?", text):
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.length(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        block = Image.new("RGB", (width, len(lines) * self.line), PAPER)
        for number, line in enumerate(lines):
            ImageDraw.Draw(block).text((0, number * self.line), line, INK, self.font)
        return block


def _legend(
    dataset: DatasetMetadata, shown: frozenset[int], width: int, writing: _Writing
) -> Image.Image:
    """Colour and name of each label that is shown, in as many lines as the width requires."""
    classes = zip(dataset.class_names, distinguishable(dataset.palette), strict=True)
    entries: list[tuple[str, Color | None]] = [
        entry for number, entry in enumerate(classes) if number in shown
    ]
    if any(number >= dataset.num_classes for number in shown):
        entries.append(("ignored", None))
    square, gap = writing.size, writing.size
    places, left, top = [], 0, 0
    for name, _ in entries:
        length = square + 6 + writing.length(name)
        if left and left + length > width:
            left, top = 0, top + writing.line
        places.append((left, top))
        left += length + gap
    legend = Image.new("RGB", (width, top + writing.line), PAPER)
    pen = ImageDraw.Draw(legend)
    for (name, color), (x, y) in zip(entries, places, strict=True):
        _draw_swatch(legend, (x, y + 2), square, color)
        pen.text((x + square + 6, y), name, INK, writing.font)
    return legend


def _draw_swatch(
    legend: Image.Image, place: tuple[int, int], side: int, color: Color | None
) -> None:
    """Draw a square of a colour, or a striped square if there is no colour."""
    rows, columns = np.indices((side + 1, side + 1))
    stripes = np.array(STRIPES, np.uint8)[(rows + columns) // 4 % 2]
    swatch = stripes if color is None else np.full_like(stripes, color)
    swatch[[0, -1]] = swatch[:, [0, -1]] = INK
    legend.paste(Image.fromarray(swatch), place)
