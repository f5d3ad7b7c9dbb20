"""Random scale, crop, flip and colours of a training example, in TensorFlow operations.

TensorFlow is passed in as an argument: in the pipeline, only `examples` imports it.
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from ranet_jax.pipeline.metadata import IGNORE_LABEL
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.pipeline.variation import Variation


def augment(
    tf: Any,
    data: ml_collections.ConfigDict,
    variation: Variation,
    image: Any,
    label: Any,
    seed: Any,
) -> dict[str, Any]:
    """Scale, crop or pad, recolour and flip one example by seven numbers drawn from `seed`.

    The image is padded at the bottom and right by the mean colour, the label by 255. The changes
    that `variation` makes are drawn by NumPy.

    Args:
      tf: the module TensorFlow.
      data: the `data` section of a config.
      variation: the variations of the same section.
      image: float32 RGB [H, W, 3] in 0..255.
      label: uint8 [H, W, 1].
      seed: two integers.

    Returns:
      {"image": float32 [h, w, 3] normalised, "label": uint8 [h, w]} of the crop's size.
    """
    draw = tf.random.stateless_uniform([7], seed=tf.cast(tf.stack(seed), tf.int64))
    smallest, largest = data.scale_range
    scale = smallest + draw[0] * (largest - smallest)
    shape = tf.shape(image)[:2]
    scaled = tf.maximum(tf.cast(tf.round(tf.cast(shape, tf.float32) * scale), tf.int32), 1)
    image = tf.image.resize(image, scaled, method="bilinear")
    label = tf.image.resize(label, scaled, method="nearest")
    if variation.before_crop:
        image, label = _in_numpy(tf, variation.rotated, image, label, seed)

    crop = tf.constant(tuple(data.crop_size), tf.int32)
    room = tf.cast(tf.maximum(scaled - crop, 0) + 1, tf.float32)
    top, left = tf.unstack(tf.cast(tf.floor(draw[1:3] * room), tf.int32))
    image = image[top : top + crop[0], left : left + crop[1]]
    label = label[top : top + crop[0], left : left + crop[1]]

    image = _recolour(tf, data, image, 2.0 * draw[4:7] - 1.0)
    if variation.after_crop:
        image, label = _in_numpy(tf, variation.recoloured, image, label, seed)
    image = Normalization.from_config(data)(image)
    below, right = tf.unstack(crop - tf.shape(image)[:2])
    padding = [[0, below], [0, right], [0, 0]]
    image = tf.pad(image, padding)
    label = tf.pad(label, padding, constant_values=tf.constant(IGNORE_LABEL, tf.uint8))
    if data.flip:
        flipped = draw[3] < 0.5
        image = tf.where(flipped, image[:, ::-1], image)
        label = tf.where(flipped, label[:, ::-1], label)
    height, width = data.crop_size
    return {
        "image": tf.ensure_shape(image, [height, width, 3]),
        "label": tf.ensure_shape(label[..., 0], [height, width]),
    }


def _in_numpy(
    tf: Any, function: Callable[..., Any], image: Any, label: Any, seed: Any
) -> tuple[Any, Any]:
    """Apply a method of `Variation` to an image [h, w, 3] and its label [h, w, 1]."""

    def call(image: Any, label: Any, seed: Any, number: Any) -> Any:
        return function(image, label, int(seed), int(number))

    arguments = [image, label[..., 0], *(tf.cast(number, tf.int64) for number in seed)]
    changed, labels = tf.numpy_function(call, arguments, [tf.float32, tf.uint8])
    return tf.ensure_shape(changed, [None, None, 3]), tf.ensure_shape(labels, [None, None])[
        ..., None
    ]


def _recolour(tf: Any, data: ml_collections.ConfigDict, image: Any, draw: Any) -> Any:
    """Change the colours of a float32 image in 0..255 by three numbers in -1..1.

    First all values are shifted, then their distance from the image's mean grey is scaled, then
    each pixel's distance from its own grey (Rec. 601).
    """
    image = image + 255.0 * data.brightness * draw[0]
    if data.contrast:
        grey = tf.reduce_mean(tf.image.rgb_to_grayscale(image))
        image = grey + (1.0 + data.contrast * draw[1]) * (image - grey)
    if data.saturation:
        greys = tf.image.rgb_to_grayscale(image)
        image = greys + (1.0 + data.saturation * draw[2]) * (image - greys)
    return tf.clip_by_value(image, 0.0, 255.0)
