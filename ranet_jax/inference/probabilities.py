"""From score maps to probabilities: whole images or sliding windows, over scales and flips."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32
from ml_collections import ConfigDict
from tqdm import tqdm

from ranet_jax import ops
from ranet_jax.errors import UserError
from ranet_jax.inference.windows import slide
from ranet_jax.models import PAIRWISE, holds_pair_tables

MODES = ("whole", "slide")
# Feature pixels of one pass where a block holds tables of all their pairs: 100 MB each.
TABLE_PIXELS = 5000
# Feature pixels of one pass where it does not, but goes over all pairs: a minute or two of one
# CPU core. A 1024 x 2048 image has so many at output stride 8.
STREAMING_PIXELS = 128 * 256

ScoreMaps = dict[str, Array]
# Normalised images [b, H, W, 3] -> score maps before softmax [b, h, w, c] by name.
Forward = Callable[[Array], ScoreMaps]


@dataclasses.dataclass(frozen=True)
class InferenceSettings:
    """How score maps become probabilities at the image's own resolution.

    `mode` is "whole" or "slide": windows of `crop_size`, `stride_ratio` crops apart, in batches
    of at most `window_batch` (or one of each image). Probabilities are averaged over `scales` of
    the image and, if `flip`, over the image and its mirror image. An image of more than
    `max_pixels` passes as a whole at a smaller size, its scores resized back. With `regions` an
    evaluation counts regions too, which windows, scales and flips need a pass more for.
    """

    mode: str = "whole"
    crop_size: tuple[int, int] = (769, 769)
    stride_ratio: float = 2 / 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window_batch: int = 4
    max_pixels: int | None = None
    regions: bool = True

    def __post_init__(self) -> None:
        checks = {
            f"mode is {self.mode!r}, but must be one of {MODES}": self.mode in MODES,
            f"crop_size is {self.crop_size}, but must be two positive numbers": (
                len(self.crop_size) == 2 and min(self.crop_size) > 0
            ),
            f"stride_ratio is {self.stride_ratio}, but must lie in (0, 1]": (
                0 < self.stride_ratio <= 1
            ),
            f"scales is {self.scales}, but must be one or more positive numbers": (
                len(self.scales) > 0 and min(self.scales) > 0
            ),
            f"window_batch is {self.window_batch}, but must be positive": self.window_batch > 0,
        }
        for sentence, holds in checks.items():
            if not holds:
                raise UserError(f"The inference setting {sentence}.")

    @classmethod
    def from_config(cls, config: ConfigDict) -> "InferenceSettings":
        """Read the `eval` section of a config.

        Where the network compares all pairs of feature pixels, `max_pixels` is what
        `STREAMING_PIXELS` of them see (`TABLE_PIXELS` where it holds tables of the pairs), or a
        training crop if that is larger.
        """
        section, max_pixels = config.eval, None
        if config.model.context in PAIRWISE:
            seen = TABLE_PIXELS if holds_pair_tables(config.model) else STREAMING_PIXELS
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
        )

    @property
    def single_pass(self) -> bool:
        """Whether one forward pass over the whole image is all there is to do."""
        return self.mode == "whole" and self.scales == (1.0,) and not self.flip


@functools.partial(jax.jit, static_argnames="shape")
def resized_softmax(
    scores: Float[Array, "b h w c"], shape: tuple[int, int]
) -> Float32[Array, "b H W c"]:
    """Probabilities of score maps resized to `shape` (H, W), corners aligned, in float32."""
    return jax.nn.softmax(ops.resize_bilinear(scores.astype(jnp.float32), shape), axis=-1)


_resize = jax.jit(ops.resize_bilinear, static_argnames="shape")


def predict_probabilities(
    forward: Forward, images: Float[Array, "b H W _"], settings: InferenceSettings
) -> dict[str, Float32[Array, "b H W _"]]:
    """Probabilities at the images' own resolution, averaged as `settings` says.

    `forward` takes normalised images of any size and gives score maps before softmax, by name,
    at any resolution. Each map is resized to its input (corners aligned) before the softmax;
    probabilities of a scaled image are resized to the image. Flips mirror the width.
    """
    shape = (images.shape[1], images.shape[2])
    if settings.mode == "slide":
        predict = functools.partial(
            slide,
            functools.partial(whole_probabilities, forward),
            crop_size=settings.crop_size,
            stride_ratio=settings.stride_ratio,
            window_batch=settings.window_batch,
        )
    else:
        predict = functools.partial(whole_probabilities, forward, max_pixels=settings.max_pixels)
    views = [
        _view(predict, images, _scaled(shape, scale), flip)
        for scale in settings.scales
        for flip in ((False, True) if settings.flip else (False,))
    ]
    return {
        name: sum((view[name] for view in views[1:]), views[0][name]) / len(views)
        for name in views[0]
    }


def _scaled(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """A shape times a scale, rounded half up, at least 1 x 1."""
    height, width = (max(1, math.floor(size * scale + 0.5)) for size in shape)
    return height, width


def _view(predict: Forward, images: Array, scaled_shape: tuple[int, int], flip: bool) -> ScoreMaps:
    """Probabilities of the images seen at another size or mirrored, brought back to the images."""
    shape = images.shape[1:3]
    seen = images if scaled_shape == shape else _resize(images, scaled_shape)
    probabilities = predict(seen[:, :, ::-1] if flip else seen)
    if flip:
        probabilities = {name: maps[:, :, ::-1] for name, maps in probabilities.items()}
    if scaled_shape == shape:
        return probabilities
    return {name: _resize(maps, shape) for name, maps in probabilities.items()}


def whole_probabilities(
    forward: Forward, images: Float[Array, "b H W _"], max_pixels: int | None = None
) -> ScoreMaps:
    """Probabilities of whole images, which may compile for each distinct size.

    One pass ends before another starts: passes under way together would hold all their memory, and
    on several CPU devices keep the threads that their exchanges wait for.
    """
    shape, scores = images.shape[1:3], forward(fit_whole(images, max_pixels))
    return jax.block_until_ready(
        {name: resized_softmax(maps, shape) for name, maps in scores.items()}
    )


def fit_whole(
    images: Float[Array, "b H W c"], max_pixels: int | None, report: bool = True
) -> Float[Array, "b h w c"]:
    """The images, resized if they have more than `max_pixels`; standard error tells of it."""
    height, width = images.shape[1:3]
    if max_pixels is None or height * width <= max_pixels:
        return images
    factor = math.sqrt(max_pixels / (height * width))
    smaller = max(1, int(height * factor)), max(1, int(width * factor))
    if report:
        _report_smaller((height, width), smaller)
    return _resize(images, smaller)


@functools.cache
def _report_smaller(shape: tuple[int, int], smaller: tuple[int, int]) -> None:
    tqdm.write(
        f"ranet: images of {shape[0]} x {shape[1]} are too large for attention between all pixels"
        f" in one pass, which sees them at {smaller[0]} x {smaller[1]}; --config.eval.mode=slide"
        " segments windows at full size.",
        file=sys.stderr,
    )
