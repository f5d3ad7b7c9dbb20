"""What a model says of an image."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from ranet_jax import ops

# Feature pixels that a region needs to count as one.
MIN_REGION_PIXELS = 8


@dataclasses.dataclass(frozen=True)
class RegionMap:
    """The regions of one image on its h x w feature grid, with their representative pixels.

    `labels` is the root pixel (row-major number) of each pixel's region and `score` its J of
    Eq. 5; `representatives` has `roots` [Q], `indices` [Q, K] and `valid` [Q, K].
    """

    labels: Int[np.ndarray, "h w"]
    score: Float[np.ndarray, "h w"]
    representatives: ops.Representatives


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of one image; None where the network has no such output.

    `coarse` is the label map of the coarse scores and `boundary` the probability of a boundary.
    """

    labels: UInt8[np.ndarray, "H W"]
    probabilities: Float32[np.ndarray, "H W c"]
    coarse: UInt8[np.ndarray, "H W"] | None = None
    boundary: Float32[np.ndarray, "H W"] | None = None
    regions: RegionMap | None = None
