"""Pictures of labels, regions and training curves."""

import colorsys
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from ranet_jax.dataset import DatasetMetadata
from ranet_jax.errors import UserError
from ranet_jax.inference import Prediction, RegionMap

Color = tuple[int, int, int]
Palette = Sequence[Color]
RGB = UInt8[np.ndarray, "H W 3"]
Picture = UInt8[np.ndarray, "_ _ 3"]  # of a size of its own

VOID: Color = (0, 0, 0)  # of the ignore label and of every label without a colour
REPRESENTATIVE: Color = (60, 255, 60)
RIM: Color = (0, 40, 0)
BORDER: Color = (255, 255, 255)
INK: Color = (25, 25, 25)
PAPER: Color = (255, 255, 255)
MARGIN = 8


def _full_palette(palette: Palette) -> UInt8[np.ndarray, "256 3"]:
    """A colour for each of the 256 labels, void for those without a class."""
    colors = np.full((256, 3), VOID, np.uint8)
    colors[: len(palette)] = np.asarray(palette, np.uint8)
    return colors


def colorize(labels: UInt8[np.ndarray, "H W"], palette: Palette) -> RGB:
    """Labels as RGB colours of the palette; the ignore label is black."""
    return _full_palette(palette)[labels]


def save_label_png(
    path: str | os.PathLike, labels: UInt8[np.ndarray, "H W"], palette: Palette
) -> None:
    """Write labels as an indexed PNG: pixel values are the labels, colours are the palette's."""
    picture = Image.fromarray(labels)
    picture.putpalette(_full_palette(palette).tobytes())
    picture.save(path, format="PNG")


def overlay(
    image: RGB, labels: UInt8[np.ndarray, "H W"], palette: Palette, alpha: float = 0.5
) -> RGB:
    """The image with its labels' colours over it, `alpha` opaque."""
    blend = (1 - alpha) * image + alpha * colorize(labels, palette)
    return np.rint(blend).astype(np.uint8)


def distinct_colors(count: int) -> UInt8[np.ndarray, "n 3"]:
    """Colours that differ well, always the same: hues a golden ratio apart, in four shades.

    The greens of the representative pixels are left out.
    """
    shades = ((0.85, 1.0), (0.5, 1.0), (0.9, 0.75), (0.4, 0.85))  # saturation, value
    golden = (math.sqrt(5) - 1) / 2
    colors = []
    for index in range(count):
        hue = 0.5 + 0.66 * ((index * golden) % 1.0)  # from cyan through red to yellow
        colors.append(colorsys.hsv_to_rgb(hue % 1.0, *shades[index % len(shades)]))
    return np.rint(255 * np.array(colors).reshape(-1, 3)).astype(np.uint8)


def region_picture(
    image: RGB, regions: RegionMap, shorter_side: int = 512, alpha: float = 0.5
) -> Picture:
    """The regions of an image and their representative pixels (green dots), as in Figure 5.

    Regions that have representatives are tinted over the dimmed image, white lines part all
    regions, and each dot lies at the centre of its feature pixel. Small images are enlarged
    until the shorter side has `shorter_side` pixels.
    """
    factor = max(1.0, shorter_side / min(image.shape[:2]))
    height, width = (round(size * factor) for size in image.shape[:2])
    canvas = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    grey = canvas.mean(axis=-1, keepdims=True)
    dimmed = 0.7 * (0.5 * canvas + 0.5 * grey)

    labels = _at_pixels(regions.labels, (height, width))
    roots = np.asarray(regions.representatives.roots)
    slots = np.flatnonzero(roots >= 0)
    color_of_root = np.zeros((regions.labels.size, 3), np.float64)
    color_of_root[roots[slots]] = distinct_colors(len(roots))[slots]
    has_slot = np.zeros(regions.labels.size, bool)
    has_slot[roots[slots]] = True
    tinted = (1 - alpha) * dimmed + alpha * color_of_root[labels]
    picture = np.where(has_slot[labels][..., None], tinted, dimmed)
    picture = np.where(
        _borders(labels)[..., None], 0.25 * picture + 0.75 * np.array(BORDER), picture
    )

    drawing = Image.fromarray(np.rint(picture).astype(np.uint8))
    _draw_dots(drawing, regions)
    return np.asarray(drawing)


def _at_pixels(
    grid: Integer[np.ndarray, "h w"], shape: tuple[int, int]
) -> Integer[np.ndarray, "H W"]:
    """Each pixel's nearest value of a feature grid whose corners are the image's corners."""
    nearest = [
        np.floor(np.linspace(0, cells - 1, size) + 0.5).astype(np.int64)
        if size > 1
        else np.zeros(1, np.int64)
        for cells, size in zip(grid.shape, shape, strict=True)
    ]
    return grid[np.ix_(*nearest)]


def _borders(labels: Integer[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels whose right or lower neighbour belongs to another region."""
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def feature_positions(
    indices: Int[np.ndarray, " n"], grid: tuple[int, int], shape: tuple[int, int]
) -> Float[np.ndarray, "n 2"]:
    """Image coordinates (y, x) of the centres of feature pixels, corners aligned.

    On a 3 x 3 grid over 9 x 9 pixels, feature pixels 0, 4 and 8 lie at (0, 0), (4, 4), (8, 8).
    """
    cells = np.stack(np.divmod(indices, grid[1]), axis=-1)
    steps = [(size - 1) / max(count - 1, 1) for size, count in zip(shape, grid, strict=True)]
    return cells * np.array(steps)


def _draw_dots(drawing: Image.Image, regions: RegionMap) -> None:
    """Draw the representative pixels, about half a feature pixel wide."""
    shape, grid = (drawing.height, drawing.width), regions.labels.shape
    cell = min(size / count for size, count in zip(shape, grid, strict=True))
    radius = min(max(0.3 * cell, 2.5), 8.0)
    indices = np.asarray(regions.representatives.indices)[regions.representatives.valid]
    positions = feature_positions(indices, grid, shape)
    pen = ImageDraw.Draw(drawing)
    for y, x in positions:
        for reach, color in ((radius + 1.5, RIM), (radius, REPRESENTATIVE)):
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)


def sheet_row(
    image: RGB,
    prediction: Prediction,
    palette: Palette,
    truth: UInt8[np.ndarray, "H W"] | None = None,
) -> dict[str, Picture]:
    """Pictures of one image by title: itself, truth, coarse, fine and regions, where there are."""
    row = {"image": image}
    if truth is not None:
        row["truth"] = colorize(truth, palette)
    if prediction.coarse is not None:
        row["coarse"] = colorize(prediction.coarse, palette)
    row["fine"] = colorize(prediction.labels, palette)
    if prediction.regions is not None:
        row["regions"] = region_picture(image, prediction.regions)
    return row


def contact_sheet(
    rows: Sequence[Mapping[str, Picture]], dataset: DatasetMetadata, picture_width: int = 320
) -> Image.Image:
    """Rows of pictures under their titles, and a legend of the classes.

    Raises:
      UserError: there are no rows, or rows of other titles than the first.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise UserError("A sheet needs a row at least, and the same pictures in every row.")
    font = ImageFont.load_default(16)
    line = 24
    strips = [[_fit(picture, picture_width) for picture in row.values()] for row in rows]
    heights = [max(picture.height for picture in strip) for strip in strips]
    width = MARGIN + len(rows[0]) * (picture_width + MARGIN)
    legend = _legend(dataset, width - 2 * MARGIN, font, line)
    total = MARGIN + line + sum(height + MARGIN for height in heights) + legend.height + MARGIN

    sheet = Image.new("RGB", (width, total), PAPER)
    pen = ImageDraw.Draw(sheet)
    lefts = [MARGIN + column * (picture_width + MARGIN) for column in range(len(rows[0]))]
    for left, title in zip(lefts, rows[0], strict=True):
        pen.text((left, MARGIN), title, INK, font)
    top = MARGIN + line
    for strip, height in zip(strips, heights, strict=True):
        for left, picture in zip(lefts, strip, strict=True):
            sheet.paste(picture, (left, top))
        top += height + MARGIN
    sheet.paste(legend, (MARGIN, top))
    return sheet


def _fit(picture: Picture, width: int) -> Image.Image:
    """The picture at a width: smoothed if it shrinks, its pixels kept apart if it grows."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    shrinks = width < picture.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    return Image.fromarray(picture).resize((width, height), method)


def _legend(
    dataset: DatasetMetadata,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    line: int,
) -> Image.Image:
    """Colour and name of each class, in as many lines as the width asks for."""
    entries = [*zip(dataset.class_names, dataset.palette, strict=True), ("ignored", VOID)]
    square, gap = 14, 18
    places, left, top = [], 0, 0
    for name, _ in entries:
        length = square + 6 + math.ceil(font.getlength(name))
        if left and left + length > width:
            left, top = 0, top + line
        places.append((left, top))
        left += length + gap
    legend = Image.new("RGB", (width, top + line), PAPER)
    pen = ImageDraw.Draw(legend)
    for (name, color), (x, y) in zip(entries, places, strict=True):
        pen.rectangle((x, y + 3, x + square, y + 3 + square), fill=color, outline=INK)
        pen.text((x + square + 6, y), name, INK, font)
    return legend


LOSS_TERMS = ("loss", "fine", "coarse", "boundary", "fine_boundary", "position", "channel")
SCORES = ("fine_miou", "coarse_miou", "fine_accuracy")


def curves(metrics_path: str | os.PathLike, picture_path: str | os.PathLike) -> None:
    """Draw losses (running means, in nats a pixel) and scores over steps from `metrics.jsonl`.

    Raises:
      UserError: the file is missing or is not JSON lines.
    """
    from matplotlib.figure import Figure

    records = _read_records(Path(metrics_path))
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in LOSS_TERMS:
        steps, values = _series(records, name)
        if len(steps):
            window = max(1, len(values) // 50)
            label = name if name == "loss" else f"{name} (unweighted)"
            losses.plot(steps, _running_mean(values, window), label=label, linewidth=1.2)
    for name in SCORES:
        steps, values = _series(records, name)
        if len(steps):
            label = name.replace("_", " ").replace("miou", "mIoU")
            scores.plot(steps, 100 * values, label=label, marker=".", linewidth=1.2)
    losses.set(title="training loss", xlabel="step", ylabel="nats a pixel", yscale="log")
    scores.set(title="evaluation", xlabel="step", ylabel="percent", ylim=(0, 100))
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(picture_path, dpi=120)


def _read_records(path: Path) -> list[dict[str, int | float]]:
    """The finished lines of a JSON lines file: a line still being written has no end yet."""
    try:
        lines = path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; name the metrics.jsonl of a run.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON lines ({error}); restore it from a copy.") from error


def _series(
    records: Sequence[Mapping[str, int | float]], name: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Steps and values of the records that have a value of this name."""
    points = [(record["step"], record[name]) for record in records if name in record]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values


def _running_mean(values: Float[np.ndarray, " n"], window: int) -> Float[np.ndarray, " n"]:
    """Mean of each value and up to `window - 1` before it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
