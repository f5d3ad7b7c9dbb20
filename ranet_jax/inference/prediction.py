"""What a model predicts for an image."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from ranet_jax import ops
from ranet_jax.models import Outputs

# How many feature pixels a region needs to count as a region.
MIN_REGION_PIXELS = 8


@dataclasses.dataclass(frozen=True)
class RegionMap:
    """The regions of one image on its h x w feature grid, with their representative pixels.

    `labels` is the root pixel (row-major number) of each pixel's region and `score` its J of
    Eq. 5; `representatives` has `roots` [Q], `indices` [Q, K] and `valid` [Q, K]. The corners of
    the grid are those of the image, or, without `align_corners`, the outer edges are.
    """

    labels: Int[np.ndarray, "h w"]
    score: Float[np.ndarray, "h w"]
    representatives: ops.Representatives
    align_corners: bool = True


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model predicts for one image; outputs that the network lacks are None.

    `coarse` is the label map of the coarse scores and `boundary` the probability of a boundary.
    """

    labels: UInt8[np.ndarray, "H W"]
    probabilities: Float32[np.ndarray, "H W c"]
    coarse: UInt8[np.ndarray, "H W"] | None = None
    boundary: Float32[np.ndarray, "H W"] | None = None
    regions: RegionMap | None = None


def prediction_of(maps: dict[str, np.ndarray], regions: RegionMap | None) -> Prediction:
    """The prediction of probabilities [H, W, _] by output: "fine", "coarse", "boundary"."""
    labels = {name: maps[name].argmax(axis=-1).astype(np.uint8) for name in maps}
    return Prediction(
        labels=labels["fine"],
        probabilities=maps["fine"],
        coarse=labels.get("coarse"),
        boundary=maps["boundary"][..., 1] if "boundary" in maps else None,
        regions=regions,
    )


def region_map_of(outputs: Outputs, number: int, align_corners: bool) -> RegionMap | None:
    """The regions of an image of the batch, on the grid of the score maps; None without regions."""
    if outputs.regions is None or outputs.coarse is None:
        return None
    grid = outputs.coarse.shape[1:3]
    regions = outputs.regions
    return RegionMap(
        labels=np.asarray(regions.labels[number]).reshape(grid),
        score=np.asarray(regions.score[number]).reshape(grid),
        representatives=jax.tree.map(lambda x: np.asarray(x[number]), regions.representatives),
        align_corners=align_corners,
    )
