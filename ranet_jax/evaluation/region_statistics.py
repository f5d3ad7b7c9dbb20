"""Statistics of a network's regions: their size, their purity and their boundaries' quality."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Int64, Integer

from ranet_jax import ops
from ranet_jax.display.tables import table
from ranet_jax.inference.prediction import MIN_REGION_PIXELS
from ranet_jax.inference.region_purity import count_pure_pixels
from ranet_jax.models import Outputs
from ranet_jax.pipeline.metadata import IGNORE_LABEL

# A cell is predicted to hold a boundary if its probability exceeds this.
BOUNDARY_THRESHOLD = 0.5
# A partition is degenerate if more than this share of the pixels is in one region, or single.
DEGENERATE_SHARE = 0.9

_boundary_cells = jax.jit(
    ops.boundary_cells, static_argnames=("shape", "ignore_label", "align_corners")
)


@dataclasses.dataclass(frozen=True)
class RegionCounts:
    """Counts for one or more images, which add up over images, batches and hosts.

    Pixels are those of the feature grid. A boundary cell counts only if a pixel of the label map
    within it is labelled.
    """

    images: int = 0
    pixels: int = 0
    regions: int = 0  # of MIN_REGION_PIXELS or more
    region_pixels: int = 0  # in those
    squared_sizes: int = 0  # sum of the squares of the sizes of all regions
    largest_pixels: int = 0  # in the largest region of each image
    slot_pixels: int = 0  # in regions that have a slot for representatives
    single_pixels: int = 0  # in regions of one pixel
    labelled_pixels: int = 0
    pure_pixels: int = 0  # labelled pixels of their region's most frequent category
    true_boundary: int = 0
    predicted_boundary: int = 0
    matched_boundary: int = 0  # both

    def __add__(self, other: "RegionCounts") -> "RegionCounts":
        return RegionCounts.from_vector(self.to_vector() + other.to_vector())

    def to_vector(self) -> Int64[np.ndarray, " n"]:
        """The numbers in the order of the fields."""
        return np.array(dataclasses.astuple(self), np.int64)

    @classmethod
    def from_vector(cls, vector: Int64[np.ndarray, " n"]) -> "RegionCounts":
        """The counts that `to_vector` gave.

        Raises:
          ValueError: there are more or fewer numbers than fields.
        """
        if len(vector) != len(dataclasses.fields(cls)):
            raise ValueError(f"{len(dataclasses.fields(cls))} counts are needed, not {len(vector)}")
        return cls(*(int(number) for number in vector))


def count_image(
    labels: Int[np.ndarray, "h w"],
    roots: Int[np.ndarray, " q"],
    boundary: Float[np.ndarray, "h w"],
    truth: Integer[np.ndarray, "H W"],
    ignore_label: int = IGNORE_LABEL,
    align_corners: bool = True,
) -> RegionCounts:
    """Count the regions of one image.

    The category of a feature pixel is that of the label pixel at its place (`ops.nearest_grid`);
    ignored pixels have none. `ops.boundary_cells` says whether a cell holds a boundary.

    Args:
      labels: root pixel (row-major number) of each feature pixel's region.
      roots: root pixels of the regions that have a slot; -1 for an empty slot.
      boundary: probability of a boundary, B of Eq. 1.
      truth: label map of any resolution.
      ignore_label: the value of pixels without a category.
      align_corners: how the feature grid lies over the label map, as in `ops.nearest_grid`.
    """
    height, width = labels.shape
    sizes = np.bincount(labels.ravel(), minlength=labels.size)
    large = sizes[sizes >= MIN_REGION_PIXELS]

    labelled_pixels, pure_pixels = count_pure_pixels(labels, truth, ignore_label, align_corners)
    cells = _boundary_cells(
        truth, shape=(height, width), ignore_label=ignore_label, align_corners=align_corners
    )
    true, pixels_of_cell = jax.device_get(cells)
    predicted = (boundary > BOUNDARY_THRESHOLD) & (pixels_of_cell > 0)
    return RegionCounts(
        images=1,
        pixels=labels.size,
        regions=len(large),
        region_pixels=int(large.sum()),
        squared_sizes=int((sizes**2).sum()),
        largest_pixels=int(sizes.max()),
        slot_pixels=int(sizes[np.unique(roots[roots >= 0])].sum()),
        single_pixels=int((sizes == 1).sum()),
        labelled_pixels=labelled_pixels,
        pure_pixels=pure_pixels,
        true_boundary=int(true.sum()),
        predicted_boundary=int(predicted.sum()),
        matched_boundary=int((true & predicted).sum()),
    )


def count_batch(
    outputs: Outputs,
    truth: Integer[np.ndarray, "b H W"],
    mask: Bool[np.ndarray, " b"],
    ignore_label: int = IGNORE_LABEL,
    align_corners: bool = True,
) -> RegionCounts:
    """Sum of `count_image` over the images of a batch that `mask` does not leave out.

    All counts are 0 if the network has no regions.
    """
    total = RegionCounts()
    if outputs.regions is None or outputs.boundary is None:
        return total
    grid = outputs.boundary.shape[1:3]
    labels, roots, boundary = jax.device_get(
        (
            outputs.regions.labels,
            outputs.regions.representatives.roots,
            jax.nn.softmax(outputs.boundary)[..., 1],
        )
    )
    for index in np.flatnonzero(mask):
        total += count_image(
            labels[index].reshape(grid),
            roots[index],
            boundary[index],
            truth[index],
            ignore_label,
            align_corners,
        )
    return total


def count_passes(
    passes: Iterable[Outputs],
    truth: Integer[np.ndarray, "b H W"],
    mask: Bool[np.ndarray, " b"],
    ignore_label: int = IGNORE_LABEL,
    align_corners: bool = True,
) -> RegionCounts:
    """Sum of `count_batch` over passes that took the images of a batch one part after another."""
    total, start = RegionCounts(), 0
    for outputs in passes:
        part = slice(start, start + len(outputs.fine))
        total += count_batch(outputs, truth[part], mask[part], ignore_label, align_corners)
        start = part.stop
    return total


@dataclasses.dataclass(frozen=True)
class RegionScores:
    """Scores of the regions, computed from counts; NaN where there is nothing to divide by.

    Sizes are in feature pixels; shares, purity and the boundary's scores are fractions of 1.
    """

    counts: RegionCounts

    @property
    def regions_per_image(self) -> float:
        """Regions of `MIN_REGION_PIXELS` or more in an image."""
        return _ratio(self.counts.regions, self.counts.images)

    @property
    def region_size(self) -> float:
        """Mean size of those regions."""
        return _ratio(self.counts.region_pixels, self.counts.regions)

    @property
    def pixel_region_size(self) -> float:
        """Mean over the pixels of the size of the region that a pixel is in."""
        return _ratio(self.counts.squared_sizes, self.counts.pixels)

    @property
    def largest_region_share(self) -> float:
        """Share of the pixels that are in the largest region of their image."""
        return _ratio(self.counts.largest_pixels, self.counts.pixels)

    @property
    def slot_share(self) -> float:
        """Share of the pixels whose region has a slot, so that context reaches them."""
        return _ratio(self.counts.slot_pixels, self.counts.pixels)

    @property
    def single_share(self) -> float:
        """Share of the pixels that form a region by themselves."""
        return _ratio(self.counts.single_pixels, self.counts.pixels)

    @property
    def region_purity(self) -> float:
        """Share of the labelled pixels that have their region's most frequent category."""
        return _ratio(self.counts.pure_pixels, self.counts.labelled_pixels)

    @property
    def boundary_precision(self) -> float:
        """Share of the predicted boundary cells that are true."""
        return _ratio(self.counts.matched_boundary, self.counts.predicted_boundary)

    @property
    def boundary_recall(self) -> float:
        """Share of the true boundary cells that are predicted."""
        return _ratio(self.counts.matched_boundary, self.counts.true_boundary)

    @property
    def boundary_f(self) -> float:
        """Harmonic mean of precision and recall: 2 matched / (predicted + true)."""
        either = self.counts.predicted_boundary + self.counts.true_boundary
        return _ratio(2 * self.counts.matched_boundary, either)

    def values(self) -> dict[str, float]:
        """All scores by name."""
        return {
            "regions_per_image": self.regions_per_image,
            "region_size": self.region_size,
            "pixel_region_size": self.pixel_region_size,
            "largest_region_share": self.largest_region_share,
            "slot_share": self.slot_share,
            "single_share": self.single_share,
            "region_purity": self.region_purity,
            "boundary_precision": self.boundary_precision,
            "boundary_recall": self.boundary_recall,
            "boundary_f": self.boundary_f,
        }

    def to_json(self) -> dict[str, Any]:
        """The scores (None for NaN), the counts, and the "warning" (None if all is well)."""
        scores = {
            name: None if math.isnan(value) else value for name, value in self.values().items()
        }
        return scores | {"counts": dataclasses.asdict(self.counts), "warning": self.warning()}

    def table(self) -> str:
        """Markdown: name and value of each score, "-" for NaN; the warning, if any, is below."""
        rows = [
            [
                f"regions per image, of {MIN_REGION_PIXELS} or more feature-map pixels",
                _one(self.regions_per_image),
            ],
            ["their mean size, pixels", _one(self.region_size)],
            ["mean size of a pixel's region, pixels", _one(self.pixel_region_size)],
            ["pixels in the largest region", _percent(self.largest_region_share)],
            ["pixels in regions that exchange context", _percent(self.slot_share)],
            ["pixels that form a region by themselves", _percent(self.single_share)],
            ["purity", _percent(self.region_purity)],
            ["boundary precision", _percent(self.boundary_precision)],
            ["boundary recall", _percent(self.boundary_recall)],
            ["boundary F", _percent(self.boundary_f)],
        ]
        values, warning = table(["regions", "value"], rows), self.warning()
        return values if warning is None else f"{values}\n\n{warning}"

    def summary(self) -> str:
        """The scores to watch, for a line of progress."""
        return (
            f"{_one(self.regions_per_image)} regions per image, purity"
            f" {_percent(self.region_purity)}, single pixels {_percent(self.single_share)},"
            f" boundary F {_percent(self.boundary_f)}"
        )

    def warning(self) -> str | None:
        """A sentence if almost all pixels are in one region or form regions alone; else None."""
        if self.largest_region_share > DEGENERATE_SHARE:
            return (
                f"The largest region of an image covers {100 * self.largest_region_share:.0f} % of"
                " the pixels, so that regions do not tell objects apart; the likely cause is that"
                " boundary scores are too low or categories too alike between objects: train"
                " longer, raise config.loss.boundary, or raise config.model.threshold."
            )
        if self.single_share > DEGENERATE_SHARE:
            return (
                f"{100 * self.single_share:.0f} % of the feature pixels are regions of one pixel,"
                " so that hardly any context is gathered; the likely cause is that boundary scores"
                " are high everywhere or the semantic scores are still noise: train longer, or"
                " lower config.model.threshold."
            )
        return None


def _one(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.1f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"


def _ratio(part: int, whole: int) -> float:
    """`part / whole`, NaN where `whole` is 0."""
    return part / whole if whole else math.nan
