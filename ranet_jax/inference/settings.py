"""How an evaluation or a prediction sees its images."""

import dataclasses
import math

from ml_collections import ConfigDict

from ranet_jax.config import check_value
from ranet_jax.errors import UserError
from ranet_jax.models import PixelPairs, find_block

# Feature pixels of one pass if a block holds tables of all their pairs: 100 MB each.
TABLE_PIXELS = 5000
# Feature pixels of one pass if a block goes over all pairs without tables: a minute or two of one
# CPU core. A 1024 x 2048 image has this many at output stride 8.
STREAMING_PIXELS = 128 * 256


@dataclasses.dataclass(frozen=True)
class InferenceSettings:
    """How score maps become probabilities at the image's own resolution.

    `mode` is "whole" or "slide": windows of `crop_size`, `stride_ratio` crops apart, in batches
    of at most `window_batch` (or one of each image). Probabilities are averaged over `scales` of
    the image and, if `flip`, over the image and its mirror image. A pass over a whole image of more
    than `max_pixels` sees it at a smaller size, and its scores are resized back. With `regions` an
    evaluation counts regions too; if there are windows, scales or flips, that takes one more pass.
    `align_corners` says how images and scores are resized, as in `ops.resize_bilinear`. It and
    `max_pixels` belong to the network: change other fields with `dataclasses.replace`.
    """

    mode: str = "whole"
    crop_size: tuple[int, int] = (769, 769)
    stride_ratio: float = 2 / 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window_batch: int = 4
    max_pixels: int | None = None
    regions: bool = True
    align_corners: bool = True

    def __post_init__(self) -> None:
        for name in ("mode", "crop_size", "stride_ratio", "scales"):
            check_value(f"eval.{name}", getattr(self, name))
        if self.window_batch < 1:
            raise UserError(f"window_batch is {self.window_batch}; choose 1 or more.")

    @classmethod
    def from_config(cls, config: ConfigDict) -> "InferenceSettings":
        """Read the `eval` section of a config, and how its network resizes scores.

        If the network compares all pairs of feature pixels, `max_pixels` is the number of image
        pixels that `STREAMING_PIXELS` of them cover (`TABLE_PIXELS` if it holds tables of the
        pairs), or the pixels of a training crop if those are more.
        """
        section, max_pixels = config.eval, None
        pairs = find_block(config.model).pairs(config.model)
        if pairs is not PixelPairs.NONE:
            seen = TABLE_PIXELS if pairs is PixelPairs.TABLES else STREAMING_PIXELS
            seen *= config.model.output_stride**2
            max_pixels = max(math.prod(config.data.crop_size), seen)
        return cls(
            mode=section.mode,
            crop_size=tuple(section.crop_size),
            stride_ratio=section.stride_ratio,
            scales=tuple(float(scale) for scale in section.scales),
            flip=section.flip,
            max_pixels=max_pixels,
            regions=section.regions,
            align_corners=config.model.align_corners,
        )

    @property
    def single_pass(self) -> bool:
        """Whether one forward pass over the whole image is enough."""
        return self.mode == "whole" and self.scales == (1.0,) and not self.flip
