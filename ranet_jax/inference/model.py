"""`Model`: a trained segmenter, from an image to a prediction."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8
from ml_collections import ConfigDict

from ranet_jax import checkpoints
from ranet_jax.config import changed_fields
from ranet_jax.errors import UserError
from ranet_jax.inference.bands import probability_rows
from ranet_jax.inference.forward import ScoreMaps, make_forward
from ranet_jax.inference.prediction import Prediction, prediction_of, region_map_of
from ranet_jax.inference.probabilities import whole_probabilities
from ranet_jax.inference.segmentation import segment
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import build_network
from ranet_jax.pipeline.images import ImageRows
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.porting.published import load_variables

# The most images and pixels of one pass over images that come one after another; an image with more
# pixels has a pass of its own.
GROUP_IMAGES, GROUP_PIXELS = 8, 2**20
_FIELDS = ("config", "module", "variables", "dataset", "step", "settings")


def as_rgb(image: Any, name: str = "The image") -> UInt8[np.ndarray, "H W 3"]:
    """A uint8 image [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] as RGB; alpha is dropped.

    Raises:
      UserError: the array is not such an image.
    """
    pixels = np.asarray(image)
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    if pixels.dtype != np.uint8 or channels not in (1, 3, 4) or pixels.size == 0:
        raise UserError(
            f"{name} is an array of {pixels.dtype} of shape {pixels.shape}; give uint8 values "
            "of shape [H, W] (grey), [H, W, 3] (RGB) or [H, W, 4] (RGBA), with at least one pixel."
        )
    if channels == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=-1)
    return pixels[..., :3]


class Model:
    """A trained segmenter with its data set's classes: from an image to a `Prediction`.

    `settings` start as those of `config.eval` and may be changed at any time, for example by
    `model.settings = dataclasses.replace(model.settings, flip=True)`. `step` is the training step
    of the weights, if it is known.
    """

    def __init__(
        self,
        config: ConfigDict,
        module: nn.Module,
        variables: dict,
        dataset: DatasetMetadata,
        step: int | None = None,
    ) -> None:
        self.config = config
        self.module = module
        self.variables = variables
        self.dataset = dataset
        self.step = step
        self.settings = InferenceSettings.from_config(config)
        self.forward = make_forward(module)
        self.normalization = Normalization.from_config(config.data)

    def copy(self, **changes: Any) -> "Model":
        """The model with some attributes changed, such as `settings`; the others are shared."""
        fields = {name: getattr(self, name) for name in _FIELDS} | changes
        settings = fields.pop("settings")
        other = Model(**fields)
        other.settings = settings
        return other

    @overload
    def predict(self, image: np.ndarray, with_regions: bool = True) -> Any: ...

    @overload
    def predict(
        self, image: list[np.ndarray] | tuple[np.ndarray, ...], with_regions: bool = True
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, image: Iterator[np.ndarray], with_regions: bool = True
    ) -> Iterator[Prediction]: ...

    def predict(self, image: Any, with_regions: bool = True) -> Any:
        """Segment one uint8 image: RGB [H, W, 3], RGBA [H, W, 4] or grey [H, W]; or several.

        The size of an image is bounded only by memory, most of which the probabilities take.

            image                             gives
            an image                          its `Prediction`
            a batch [b, H, W, 3 or 4]         a list of b predictions, from one pass
            a list or tuple of images         a list of predictions
            another iterable of images        an iterator of predictions, made when asked for

        Images of a list or another iterable may differ in size: up to `GROUP_IMAGES` consecutive
        images of the same size share a pass.

        Regions come from one pass over the whole image at its own scale, whatever the settings;
        `with_regions=False` saves that pass if windows, scales or flips need other passes.

        Raises:
          UserError: the array is not such an image, or there is not enough memory.
        """
        if _is_iterable_of_images(image):
            predictions = self._predict_each(image, with_regions)
            return list(predictions) if isinstance(image, list | tuple) else predictions
        if np.ndim(image) == 4:
            batch = [as_rgb(one, f"image[{number}]") for number, one in enumerate(image)]
            return self._predict(np.stack(batch), with_regions) if batch else []
        return self._predict(as_rgb(image)[None], with_regions)[0]

    def _predict_each(
        self, images: Iterable[np.ndarray], with_regions: bool
    ) -> Iterator[Prediction]:
        for group in _groups(images):
            yield from self._predict(group, with_regions)

    def _predict(self, batch: UInt8[np.ndarray, "b H W 3"], with_regions: bool) -> list[Prediction]:
        """Predictions of images of one size, from one pass."""
        with memory_explained(batch.shape):
            return self._predict_in_memory(batch, with_regions)

    def _predict_in_memory(
        self, batch: UInt8[np.ndarray, "b H W 3"], with_regions: bool
    ) -> list[Prediction]:
        images = jnp.asarray(self._normalized(batch))
        probabilities, passes = segment(
            *(self.forward, self._on_device, images, self.settings),
            names=("fine", "coarse", "boundary"),
            with_regions=with_regions,
        )
        maps = jax.device_get(probabilities)
        regions = [
            region_map_of(each, number, self.settings.align_corners)
            for each in passes
            for number in range(len(each.fine))
        ]
        regions = regions or [None] * len(batch)  # if no pass was made for them
        return [
            prediction_of({name: maps[name][number] for name in maps}, regions[number])
            for number in range(len(batch))
        ]

    def predict_rows(self, image: ImageRows) -> Iterator[UInt8[np.ndarray, "_ _"]]:
        """Labels of an image of any size, in blocks of whole rows from top to bottom.

        They are those that `predict` gives with sliding windows (mode "slide", whatever the mode
        is); only a band of the probabilities, as high as a window, is in memory. The network sees
        only windows of one size, so that images of any number of sizes compile only two programs.

        Raises:
          UserError: the settings have scales or, while blocks are asked for, there is not enough
            memory.
        """
        if self.settings.scales != (1.0,):
            raise UserError(
                f"{image.name} is segmented row by row, only at its own scale; set"
                " config.eval.scales to (1.0,)."
            )
        return self._label_rows(image)

    def _label_rows(self, image: ImageRows) -> Iterator[UInt8[np.ndarray, "_ _"]]:
        def scores(windows: Array) -> ScoreMaps:
            return {"fine": self.forward(self._on_device, windows).fine}

        def predict(windows: Array) -> Array:
            return whole_probabilities(scores, windows, self.settings.align_corners)["fine"]

        with memory_explained((1, image.height, image.width, 3), image.name):
            for rows in probability_rows(predict, image, self._normalized, self.settings):
                yield rows.argmax(axis=-1).astype(np.uint8)

    def _normalized(self, pixels: UInt8[np.ndarray, "*b H W 3"]) -> Float32[np.ndarray, "*b H W 3"]:
        return np.asarray(self.normalization(pixels.astype(np.float32)), np.float32)

    def save(self, directory: str | os.PathLike) -> None:
        """Export weights, config and classes to a new directory that `load` reads."""
        checkpoints.export(directory, self.config, self.dataset, self.variables)

    @functools.cached_property
    def _on_device(self) -> dict:
        return jax.device_put(self.variables)


@contextlib.contextmanager
def memory_explained(shape: tuple[int, ...], name: str = "") -> Iterator[None]:
    """Raise `UserError`, in one sentence, if images [b, H, W, 3] are too large for the memory."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        count, height, width, _ = shape
        if count > 1:
            raise UserError(
                f"{count} images of {width} x {height} pixels in one pass need more memory than"
                " there is; give fewer at once."
            ) from error
        raise UserError(
            f"{name or 'An image'} of {width} x {height} pixels needs more memory than there is;"
            " make it smaller or cut it into parts."
        ) from error


def _is_iterable_of_images(image: Any) -> bool:
    """Whether it is an iterable, but neither an array nor array-like nor text."""
    return (
        isinstance(image, Iterable)
        and not isinstance(image, str | bytes)
        and not hasattr(image, "__array__")
    )


def _groups(images: Iterable[Any]) -> Iterator[UInt8[np.ndarray, "b H W 3"]]:
    """Consecutive images of the same size, as batches of bounded size."""
    group: list[np.ndarray] = []
    for number, image in enumerate(images):
        rgb = as_rgb(image, f"image[{number}]")
        height, width, _ = rgb.shape
        full = (len(group) + 1) * height * width > GROUP_PIXELS or len(group) == GROUP_IMAGES
        if group and (full or rgb.shape != group[0].shape):
            yield np.stack(group)
            group = []
        group.append(rgb)
    if group:
        yield np.stack(group)


def load(
    path: str | os.PathLike, configure: Callable[[ConfigDict], ConfigDict] | None = None
) -> Model:
    """The model of a work directory (its best checkpoint), a checkpoint or an exported model.

    `path` may also be the directory of a published model.

    `configure` may change fields of the config, such as those of `config.eval`.

    Raises:
      UserError: there is no checkpoint at `path`, its arrays are not those of the network that its
        config and class names describe, or `configure` describes another network.
    """
    config, dataset, variables, step = load_variables(path)
    if configure is not None:
        trained = config.copy_and_resolve_references()
        config = configure(config)
        names = changed_fields(trained, config, "weights")
        if names:
            raise UserError(
                f"config.{', config.'.join(names)} cannot be set here, because the weights of"
                f" {path} belong to the network they were trained with; leave that out."
            )
    module, expected = build_network(config, dataset.num_classes, str(path))
    checkpoints.check_same_arrays(expected, variables, str(path))
    return Model(config, module, variables, dataset, step)
