"""From score maps to probabilities: whole images or sliding windows, over scales and flips."""

import functools
import math
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32
from tqdm import tqdm

from ranet_jax import ops
from ranet_jax.inference.forward import ScoreMaps
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.inference.windows import slide
from ranet_jax.ops.checks import GridShape

# Normalised images [b, H, W, 3] -> score maps before softmax [b, h, w, c] by name.
Forward = Callable[[Array], ScoreMaps]


_resize = jax.jit(ops.resize_bilinear, static_argnames=("shape", "align_corners"))


@functools.partial(jax.jit, static_argnames=("shape", "align_corners"))
def resized_softmax(
    scores: Float[Array, "b h w c"], shape: GridShape, align_corners: bool
) -> Float32[Array, "b H W c"]:
    """Probabilities of score maps resized to `shape` (H, W), in float32."""
    resized = ops.resize_bilinear(scores.astype(jnp.float32), shape, align_corners)
    return jax.nn.softmax(resized, axis=-1)


def predict_probabilities(
    forward: Forward, images: Float[Array, "b H W _"], settings: InferenceSettings
) -> dict[str, Float32[Array, "b H W _"]]:
    """Probabilities at the images' own resolution, averaged as `settings` says.

    `forward` takes normalised images of any size and returns score maps before softmax, by name,
    at any resolution. Each map is resized to its input before the softmax; probabilities of a
    scaled image are resized to the image. Flips mirror the width.
    """
    shape = (images.shape[1], images.shape[2])
    if settings.mode == "slide":
        predict = functools.partial(
            slide,
            functools.partial(whole_probabilities, forward, align_corners=settings.align_corners),
            crop_size=settings.crop_size,
            stride_ratio=settings.stride_ratio,
            window_batch=settings.window_batch,
        )
    else:
        predict = functools.partial(
            whole_probabilities,
            forward,
            align_corners=settings.align_corners,
            max_pixels=settings.max_pixels,
        )
    views = [
        _view(predict, images, _scaled(shape, scale), flip, settings.align_corners)
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


def _view(
    predict: Forward,
    images: Array,
    scaled_shape: tuple[int, int],
    flip: bool,
    align_corners: bool,
) -> ScoreMaps:
    """Probabilities of the images seen at another size or mirrored, mapped back to the images."""
    shape = images.shape[1:3]
    seen = images if scaled_shape == shape else _resize(images, scaled_shape, align_corners)
    probabilities = predict(seen[:, :, ::-1] if flip else seen)
    if flip:
        probabilities = {name: maps[:, :, ::-1] for name, maps in probabilities.items()}
    if scaled_shape == shape:
        return probabilities
    return {name: _resize(maps, shape, align_corners) for name, maps in probabilities.items()}


def whole_probabilities(
    forward: Forward,
    images: Float[Array, "b H W _"],
    align_corners: bool,
    max_pixels: int | None = None,
) -> ScoreMaps:
    """Probabilities of whole images, which may compile for each distinct size."""
    scores = forward(fit_whole(images, align_corners, max_pixels))
    return probabilities_at(scores, (images.shape[1], images.shape[2]), align_corners)


def probabilities_at(scores: ScoreMaps, shape: tuple[int, int], align_corners: bool) -> ScoreMaps:
    """`resized_softmax` of each score map, computed before this returns.

    One pass ends before another starts: passes that run at the same time would all hold their
    memory, and on several CPU devices would keep the threads that their exchanges wait for.
    """
    return jax.block_until_ready(
        {name: resized_softmax(maps, shape, align_corners) for name, maps in scores.items()}
    )


def fit_whole(
    images: Float[Array, "b H W c"],
    align_corners: bool,
    max_pixels: int | None,
    report: bool = True,
) -> Float[Array, "b h w c"]:
    """The images, resized if larger than `max_pixels`, which is reported on standard error."""
    height, width = images.shape[1:3]
    if max_pixels is None or height * width <= max_pixels:
        return images
    factor = math.sqrt(max_pixels / (height * width))
    smaller = max(1, int(height * factor)), max(1, int(width * factor))
    if report:
        _report_smaller((height, width), smaller)
    return _resize(images, smaller, align_corners)


@functools.cache
def _report_smaller(shape: tuple[int, int], smaller: tuple[int, int]) -> None:
    tqdm.write(
        f"ranet: images of {shape[0]} x {shape[1]} are too large for attention between all pixels"
        f" in one pass, and are segmented at {smaller[0]} x {smaller[1]}; set config.eval.mode to"
        " 'slide' to segment windows at full size.",
        file=sys.stderr,
    )
