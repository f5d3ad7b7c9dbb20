"""One image as a network sees it: maps to look at, and the inputs of Eqs. 1-8."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8
from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.inference.forward import CompiledSizes, make_observed_forward, score_maps
from ranet_jax.inference.model import Model, memory_explained
from ranet_jax.inference.prediction import RegionMap, region_map_of
from ranet_jax.inference.probabilities import fit_whole, resized_softmax
from ranet_jax.models.outputs import INTERACTION_INPUTS, REGION_INPUTS
from ranet_jax.ops import nearest_grid

# Longest side of what is shown, in pixels; larger images are shown at a reduced size.
VIEW_SIDE = 1600


class RegionInputs(NamedTuple):
    """Inputs of the equations: B, C and W^g of Eqs. 1-5, and the features A of Eqs. 6-8."""

    boundary: Float[Array, "h w"]
    probabilities: Float[Array, "h w c"]
    kernel: Float[Array, "k k"]
    features: Float[Array, "n m"]


@dataclasses.dataclass(frozen=True, eq=False)  # a scene is equal only to itself
class Scene:
    """An image and what a network computes from the whole of it in one pass.

    Maps [V, W] have the size at which the image is shown. `size` is the image's own (height,
    width). `fine_scores` and `coarse_scores` are probabilities on the feature grid. An output that
    the network lacks is None here; `inputs` is None if its regions are not those of the paper's
    equations. The corners of the feature grid are those of the image, or, without `align_corners`,
    the outer edges are.
    """

    size: tuple[int, int]
    image: UInt8[np.ndarray, "V W 3"]
    fine: UInt8[np.ndarray, "V W"]
    fine_scores: Float32[np.ndarray, "h w c"]
    coarse: UInt8[np.ndarray, "V W"] | None = None
    coarse_scores: Float32[np.ndarray, "h2 w2 c"] | None = None
    boundary: UInt8[np.ndarray, "V W"] | None = None
    truth: UInt8[np.ndarray, "V W"] | None = None
    regions: RegionMap | None = None
    inputs: RegionInputs | None = None
    align_corners: bool = True

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the feature grid."""
        height, width, _ = self.fine_scores.shape
        return height, width


class Observer:
    """A model that turns images into scenes."""

    def __init__(self, model: Model):
        self.model = model
        self._forward = make_observed_forward(model.module)
        self._variables = jax.device_put(model.variables)
        self._compiled = CompiledSizes(views=1)

    def observe(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        truth: UInt8[np.ndarray, "H2 W2"] | None = None,
    ) -> Scene:
        """The scene of an image, with its true labels if they are known.

        An image that is too large for one pass is seen at a reduced size, as `Model.predict` does.

        Raises:
          UserError: the labels have another size, or there is not enough memory.
        """
        if truth is not None and truth.shape != image.shape[:2]:
            raise UserError(
                f"The labels have {truth.shape[1]} x {truth.shape[0]} pixels and the image has"
                f" {image.shape[1]} x {image.shape[0]}; prepare the data set again."
            )
        self._compiled.note(image.shape)
        with memory_explained((1, *image.shape)):
            return self._observe(image, truth)

    def _observe(self, image: np.ndarray, truth: np.ndarray | None) -> Scene:
        settings = self.model.settings
        normalised = self.model.normalization(image.astype(np.float32))
        seen = fit_whole(
            jnp.asarray(normalised, jnp.float32)[None],
            settings.align_corners,
            settings.max_pixels,
            report=False,
        )
        outputs, sown = self._forward(self._variables, seen)
        shape = view_shape(image.shape[:2])
        maps = {
            name: np.asarray(resized_softmax(scores, shape, settings.align_corners)[0])
            for name, scores in score_maps(outputs).items()
        }
        labels = {name: maps[name].argmax(axis=-1).astype(np.uint8) for name in maps}
        inputs = None
        if REGION_INPUTS in sown and INTERACTION_INPUTS in sown:
            boundary, probabilities, kernel = sown[REGION_INPUTS]
            features = sown[INTERACTION_INPUTS][0]
            inputs = RegionInputs(
                boundary[0], probabilities[0], kernel, features.reshape(-1, features.shape[-1])
            )
        return Scene(
            size=image.shape[:2],
            image=np.asarray(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BOX)),
            fine=labels["fine"],
            fine_scores=_softmax(outputs.fine[0]),
            coarse=labels.get("coarse"),
            coarse_scores=None if outputs.coarse is None else _softmax(outputs.coarse[0]),
            boundary=(
                np.rint(255 * maps["boundary"][..., 1]).astype(np.uint8)
                if "boundary" in maps
                else None
            ),
            truth=(
                None
                if truth is None
                else truth[nearest_grid(shape, truth.shape, settings.align_corners)]
            ),
            regions=region_map_of(outputs, 0, settings.align_corners),
            inputs=inputs,
            align_corners=settings.align_corners,
        )


def view_shape(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which an image is shown: its own unless a side exceeds `VIEW_SIDE`."""
    factor = min(1.0, VIEW_SIDE / max(size))
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def _softmax(scores: Float[Array, "h w c"]) -> Float32[np.ndarray, "h w c"]:
    return np.asarray(jax.nn.softmax(scores.astype(jnp.float32), axis=-1))
