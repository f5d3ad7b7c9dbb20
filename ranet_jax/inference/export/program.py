"""The program that is exported: normalisation, network, resizing, softmax and the largest class."""

import dataclasses
import importlib.metadata
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from ranet_jax.errors import UserError
from ranet_jax.inference.model import Model
from ranet_jax.inference.probabilities import fit_whole, resized_softmax
from ranet_jax.models import build_model

# At this size the coarsest maps of a network, a 32nd of the image, have two pixels a side.
SMALLEST = 33


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of images [b, H, W, 3], which holds the weights of a model.

    It returns what `Model.predict` returns for one pass over the whole image: the labels, and the
    probabilities of the categories.

    Attributes:
      model: the model that the weights belong to.
      size: (H, W) of all images in pixels; None for any size with sides from `SMALLEST` up.
    """

    model: Model
    size: tuple[int, int] | None

    def __call__(
        self, images: UInt8[Array, "b H W 3"]
    ) -> tuple[UInt8[Array, "b H W"], Float32[Array, "b H W c"]]:
        """Labels and probabilities of uint8 RGB images."""
        model = self.model
        normalized = model.normalization(images.astype(jnp.float32))
        align_corners = model.settings.align_corners
        seen = fit_whole(normalized, align_corners, model.settings.max_pixels)
        variables = jax.tree.map(_widen, model.variables)
        scores = model.forward(variables, seen).fine
        probabilities = resized_softmax(scores, images.shape[1:3], align_corners)
        return jnp.argmax(probabilities, axis=-1).astype(jnp.uint8), probabilities

    def images(self, any_batch: bool) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the images it takes, in batches of any size or of one."""
        batch, *size = jax.export.symbolic_shape("b, h, w", constraints=self.constraints)
        return jax.ShapeDtypeStruct((batch if any_batch else 1, *(self.size or size), 3), jnp.uint8)

    @property
    def constraints(self) -> tuple[str, ...]:
        """Constraints on the sides of images if no size is given."""
        return () if self.size else tuple(f"{side} >= {SMALLEST}" for side in ("h", "w"))

    def check_sizes(self) -> None:
        """Raise `UserError` if the program is for images of any size but its network is not."""
        if self.size is not None:
            return
        try:
            jax.eval_shape(self, self.images(any_batch=True))
        except Exception as error:  # from whatever part of the network needs to know the size
            network = self.model.config.model
            raise UserError(
                f"A network of {network.backbone} and context {network.context!r} is exported only"
                " for images of one size; give a height and a width."
            ) from error


def _widen(array: Any) -> Array:
    """An array in float32; one in half precision is converted by an operation of the program."""
    return jax.lax.convert_element_type(jnp.asarray(array), jnp.float32)


def whole_image_model(model: Model) -> Model:
    """The model with settings for one pass over the whole image, at its own scale."""
    settings = dataclasses.replace(model.settings, mode="whole", scales=(1.0,), flip=False)
    return model.copy(settings=settings)


def with_region_path(model: Model, region_path: str) -> Model:
    """The model with another order of the pairs of pixels, and with its own settings."""
    if model.config.model.region_path == region_path:
        return model
    config = model.config.copy_and_resolve_references()
    config.model.region_path = region_path
    module = build_model(config, model.dataset.num_classes)
    # The limit on the pixels that are seen, which is in the settings, stays that of the model.
    return model.copy(config=config, module=module)


def describe(program: Program, any_batch: bool, quantize: str | None = None) -> dict[str, Any]:
    """What a user of the file needs to know besides the numbers, as JSON values."""
    model, (height, width) = program.model, program.size or ("any", "any")
    dataset, normalization = model.dataset, model.normalization
    batch = "any" if any_batch else 1
    return {
        "ranet_jax": importlib.metadata.version("ranet_jax"),
        "input": {"name": "images", "dtype": "uint8", "shape": [batch, height, width, 3]}
        | ({} if program.size else {"smallest_side": SMALLEST}),
        "outputs": {
            "labels": {"dtype": "uint8", "shape": [batch, height, width]},
            "probabilities": {
                "dtype": "float32",
                "shape": [batch, height, width, dataset.num_classes],
            },
        },
        "dataset": dataset.name,
        "class_names": list(dataset.class_names),
        "palette": [list(color) for color in dataset.palette],
        "ignore_label": dataset.ignore_label,
        "normalization": {
            "mean": list(normalization.mean),
            "std": list(normalization.std),
            "channel_order": normalization.channel_order,
            "inside": True,
        },
        "network": model.config.model.to_dict(),
        "step": model.step,
        "quantization": quantize,
    }
