"""Variations that both pipelines make in NumPy: rotation, hue, blur, and a user's function.

The fields of the config that ask for them are off by default; the function is `data.function`.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.pipeline.transforms import Image, Label, blur, rotate, shift_hue

# `function(image, label, rng)` takes a float32 RGB image [h, w, 3] in 0..255, a uint8 label [h, w]
# and a NumPy generator; it returns an image and a label of the same shapes and types.
Function = Callable[[Image, Label, np.random.Generator], tuple[Image, Label]]


class Variation:
    """The variations that a config's `data` section asks for, drawn from a seed and a number.

    Attributes:
      before_crop: whether `rotated` changes anything.
      after_crop: whether `recoloured` changes anything.
      fault: the error of a call that failed, for callers that call through TensorFlow.

    Raises:
      UserError: `data.function` cannot be imported.
    """

    def __init__(self, data: ConfigDict):
        self._data = data
        self._function = None if data.function is None else load_function(data.function)
        self.before_crop = data.rotation > 0
        self.after_crop = data.hue > 0 or data.blur > 0 or self._function is not None
        self.fault: UserError | None = None

    def rotated(self, image: Image, label: Label, seed: int, number: int) -> tuple[Image, Label]:
        """A whole example rotated by up to `data.rotation` degrees in either direction.

        Args:
          image: float32 RGB [H, W, 3] in 0..255.
          label: uint8 [H, W].
          seed: seed of the training.
          number: number of the example in the stream.
        """
        if not self.before_crop:
            return image, label
        degrees = _generator(seed, number, 2).uniform(-self._data.rotation, self._data.rotation)
        return rotate(image, label, degrees, self._data.mean)

    def recoloured(self, image: Image, label: Label, seed: int, number: int) -> tuple[Image, Label]:
        """A crop with shifted hues and blur, then passed to the user's function.

        Args:
          image: float32 RGB [h, w, 3] in 0..255.
          label: uint8 [h, w].
          seed: seed of the training.
          number: number of the example in the stream.

        Raises:
          UserError: the function fails, or returns other shapes or types than it was given.
        """
        if not self.after_crop:
            return image, label
        rng = _generator(seed, number, 3)
        turns, deviation = rng.uniform(-1.0, 1.0), rng.uniform()
        if self._data.hue > 0:
            image = shift_hue(image, self._data.hue * turns)
        if self._data.blur > 0:
            image = blur(image, self._data.blur * deviation)
        if self._function is None:
            return image, label
        try:
            return call_function(self._data.function, self._function, image, label, rng)
        except UserError as error:
            self.fault = error
            raise


def _generator(seed: int, number: int, stream: int) -> np.random.Generator:
    """Generator of a stream; `pipeline.arrays` uses streams 0 (order) and 1 (crop)."""
    return np.random.default_rng((int(seed), stream, int(number)))


def load_function(name: str) -> Function:
    """The function `module:function` of an installed module, or of one in the working directory.

    Raises:
      UserError: the name has another form, or the module or the function is missing or fails.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name.isidentifier():
        raise UserError(
            f"config.data.function is {name!r}; name a module and a function in it, such as"
            " my_module:my_function."
        )
    sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # a user's module may raise anything when it is imported
        raise UserError(
            f"config.data.function {name!r} cannot be imported ({type(error).__name__}:"
            f" {first_sentence(error)}); name a function in a module that is installed or lies in"
            " the working directory."
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(function):
        raise UserError(f"config.data.function {name!r} is not a function; name one.")
    return function


def call_function(
    name: str, function: Function, image: Image, label: Label, rng: np.random.Generator
) -> tuple[Image, Label]:
    """Apply the user's function to an example.

    Raises:
      UserError: it fails, or returns other shapes or types than it was given.
    """
    try:
        result: Any = function(image.copy(), label.copy(), rng)
    except Exception as error:
        raise UserError(
            f"config.data.function {name!r} fails ({type(error).__name__}:"
            f" {first_sentence(error)}); correct it."
        ) from error
    if isinstance(result, tuple | list) and len(result) == 2:
        found = [_described(each) for each in result]
        wanted = [_described(image), _described(label)]
        if found == wanted:
            return result[0], result[1]
        text = " and ".join(found)
    else:
        wanted = [_described(image), _described(label)]
        text = f"a {type(result).__name__}"
    raise UserError(
        f"config.data.function {name!r} returns {text}; return an image and a label of the shapes"
        f" and types that it takes, {' and '.join(wanted)}."
    )


def _described(array: Any) -> str:
    if not isinstance(array, np.ndarray):
        return f"a {type(array).__name__}"
    return f"{array.dtype} {list(array.shape)}"


def check_variation(data: ConfigDict) -> None:
    """Raise `UserError` unless the function of a config, if there is one, works on a grey crop."""
    if data.function is None:
        return
    image = np.full((*data.crop_size, 3), 127.5, np.float32)
    label = np.zeros(data.crop_size, np.uint8)
    function = load_function(data.function)
    call_function(data.function, function, image, label, np.random.default_rng(0))
