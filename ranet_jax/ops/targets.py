"""Training targets made from label maps."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer

from ranet_jax.ops.shapes import check_shapes


def boundary_target(
    labels: Integer[Array, "h w"], ignore_label: int = 255, radius: float = 2.0
) -> Bool[Array, "h w"]:
    """Mark the pixels close to a pixel of another category.

    A pixel is boundary if a pixel of another category lies within the Euclidean distance
    `radius`. Ignored pixels are no category: they neither are nor make boundary. With radius 1:

        labels            target
        0  0  0  1        .  .  x  x
        0  0  1  1        .  x  x  .
        0  0  ?  1        .  .  .  .
        0  0  ?  1        .  .  .  .

    Args:
      labels: category of each pixel, of any integer dtype.
      ignore_label: the value of ignored pixels.
      radius: in pixels.

    Returns:
      True at boundary pixels.

    Raises:
      ValueError: `labels` is not two-dimensional, or `radius` is negative.
    """
    sizes = check_shapes(labels=(labels, "h w"))
    if radius < 0:
        raise ValueError(f"radius must not be negative, but is {radius}")
    height, width, reach = sizes["h"], sizes["w"], int(radius)
    labels = labels.astype(jnp.int32)
    padded = jnp.pad(labels, reach, constant_values=ignore_label)

    near_other = jnp.zeros((height, width), bool)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if 0 < dy**2 + dx**2 <= radius**2:
                rows = slice(reach + dy, reach + dy + height)
                columns = slice(reach + dx, reach + dx + width)
                neighbour = padded[rows, columns]
                near_other |= (neighbour != labels) & (neighbour != ignore_label)
    return near_other & (labels != ignore_label)
