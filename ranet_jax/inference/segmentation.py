"""What a network computes from a batch: probabilities, and the passes that give its regions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from ranet_jax.inference.forward import ScoreMaps, score_maps
from ranet_jax.inference.probabilities import fit_whole, predict_probabilities, probabilities_at
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import Outputs


class Segmentation(NamedTuple):
    """Probabilities [b, H, W, _] by output, and the outputs of passes over whole images.

    Each of the `passes` covers the next images of the batch, at their own scale, with regions if
    these were asked for. There are no passes if none of their outputs is needed.
    """

    probabilities: ScoreMaps
    passes: list[Outputs]


def segment(
    forward: Callable[..., Outputs],
    variables: Any,
    images: Float[Array, "b H W _"],
    settings: InferenceSettings,
    names: tuple[str, ...],
    with_regions: bool,
) -> Segmentation:
    """Segment normalised images as `settings` says.

    If the settings ask for one pass, it gives the regions too. Otherwise further passes are made
    for them, with one image on each device at a time, unless the network has no regions.

    Args:
      forward: compiled `forward(variables, images, with_regions)`, as `make_forward` returns it.
      variables: parameters and batch statistics, on the devices of the images.
      images: a batch, on one device or more.
      settings: scales, flips and windows.
      names: the outputs whose probabilities are wanted; those that the network lacks are ignored.
      with_regions: whether regions are wanted.
    """

    def wanted(outputs: Outputs) -> ScoreMaps:
        return {name: maps for name, maps in score_maps(outputs).items() if name in names}

    if settings.single_pass:
        seen = fit_whole(images, settings.align_corners, settings.max_pixels)
        outputs = forward(variables, seen, with_regions=with_regions)
        shape = (images.shape[1], images.shape[2])
        probabilities = probabilities_at(wanted(outputs), shape, settings.align_corners)
        return Segmentation(probabilities, [outputs])
    passes = []
    if with_regions and _gives_regions(forward, variables, images):
        group = len(images.sharding.device_set)
        for start in range(0, len(images), group):
            part = images[start : start + group]
            seen = fit_whole(part, settings.align_corners, settings.max_pixels, report=False)
            # One pass ends before another starts; see `probabilities_at`.
            passes.append(jax.block_until_ready(forward(variables, seen, with_regions=True)))

    def scores(seen: Array) -> ScoreMaps:
        return wanted(forward(variables, seen))

    return Segmentation(predict_probabilities(scores, images, settings), passes)


def _gives_regions(
    forward: Callable[..., Outputs], variables: Any, images: Float[Array, "b H W _"]
) -> bool:
    """Whether a network has regions; nothing is computed to find out."""

    def labels(variables: Any, images: Array) -> Array | None:
        regions = forward(variables, images, with_regions=True).regions
        return None if regions is None else regions.labels

    return jax.eval_shape(labels, variables, images) is not None
