"""What a schedule of Eqs. 1-5 computes, and the definitions that all of them share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

TINY = float(jnp.finfo(jnp.float32).tiny)
# Smaller probabilities count as 0: their ratios would be computed from denormal numbers.
SMALLEST = 4 * TINY
# Half a nat, in bits.
HALF_NAT = 0.5 / math.log(2)


class Inputs(NamedTuple):
    """Maps over the grid from which the attention of a pair is computed."""

    boundary: Float[Array, "h w"]
    probabilities: Float[Array, "c h w"]
    logs: Float[Array, "c h w"]

    @classmethod
    def of(cls, boundary: Float[Array, "h w"], probabilities: Float[Array, "c h w"]) -> "Inputs":
        """Create inputs, computing the logarithms of the probabilities."""
        return cls(boundary, probabilities, logarithms(probabilities))


class Gradients(NamedTuple):
    """Gradients of a sum over pairs with respect to the inputs of its attention; W^g is 1 x 1."""

    boundary: Float[Array, "h w"]
    probabilities: Float[Array, "c h w"]
    weight: Float[Array, ""]


class Schedule(NamedTuple):
    """Three passes over all pairs of two different pixels of a grid.

    `pointers(inputs, weight, threshold)` returns, for each pixel, the smallest index among the
    pixels it is linked to (Eqs. 1-4), and h * w or more if it is linked to none; shape [h, w].

    `sum_together(inputs, weight, labels)` returns the sum of each pixel's attention F^g to the
    other pixels of its region; shape [h, w].

    `gradients(inputs, weight, labels, share)` returns the gradients of the sum of share_i F^g_ij
    over all ordered pairs (i, j) within one region.
    """

    pointers: Callable[[Inputs, Array, Array], Int[Array, "h w"]]
    sum_together: Callable[[Inputs, Array, Array], Float[Array, "h w"]]
    gradients: Callable[[Inputs, Array, Array, Array], Gradients]


# For each pass, a function from the shapes of its arguments to the shapes of its results.
RESULTS: dict[str, Callable[..., Any]] = {
    "pointers": lambda inputs, *rest: jax.ShapeDtypeStruct(inputs.boundary.shape, jnp.int32),
    "sum_together": lambda inputs, *rest: inputs.boundary,
    "gradients": lambda inputs, weight, *rest: Gradients(
        inputs.boundary, inputs.probabilities, weight
    ),
}


def logarithms(probabilities: Array) -> Array:
    """ln p, and 0 where p counts as 0."""
    positive = probabilities >= SMALLEST
    return jnp.where(positive, jnp.log(jnp.where(positive, probabilities, 1.0)), 0.0)


def log_mean(p: Array, q: Array) -> Array:
    """ln u of the mean u = (p + q) / 2 of two probabilities (Eq. 2), finite where both are 0."""
    return jnp.log(jnp.maximum((p + q) / 2, TINY))


def filtered_attention(crossing: Array, divergence: Array | float, weight: Array) -> Array:
    """Compute F^g from D and E, with a 1 x 1 kernel (Eqs. 3 and 4)."""
    return jnp.clip(weight * ((1 - crossing) * (1 - divergence)), 0, 1)


def attention_gradients(
    crossing: Array, divergence: Array | float, weight: Array, share: Array
) -> tuple[Array, Array, Array]:
    """Gradients of share * F^g with respect to D, E and W^g, each 0 where F^g is clipped."""
    attention = (1 - crossing) * (1 - divergence)
    filtered = weight * attention
    share = jnp.where((filtered >= 0) & (filtered <= 1), share, 0)
    by_attention = weight * share
    return by_attention * (divergence - 1), by_attention * (crossing - 1), attention * share


def number_bits(shape: tuple[int, ...]) -> int:
    """Bits needed to hold the number of any sample of a segment in a grid of this shape."""
    return (max(shape) - 1).bit_length()


def pack_sample(value: Array, first_is_0: Array, number: Array, bits: int) -> Array:
    """Pack a sample into one integer, so that a single maximum finds the first largest sample.

    The value is in the high bits. It has 24 bits, as many as the significand of a float32, or fewer
    if the number leaves less room.

    Args:
      value: boundary score, in [0, 1].
      first_is_0: whether the sample of smaller number comes first among equal samples.
      number: number of the sample, with `bits` bits.
      bits: `number_bits` of the grid.
    """
    last, unit = 2**bits - 1, _value_unit(bits)
    rank = jnp.where(first_is_0, last - number, number)
    return ((jnp.clip(value, 0, 1) * unit).astype(jnp.int32) << bits) | rank


def unpack_sample(packed: Array, first_is_0: Array, bits: int) -> tuple[Array, Array]:
    """Return the value and the number of a packed sample."""
    last, unit = 2**bits - 1, _value_unit(bits)
    value = jnp.minimum((packed >> bits).astype(jnp.float32) / unit, 1)
    return value, jnp.where(first_is_0, last - (packed & last), packed & last)


def _value_unit(bits: int) -> float:
    return float(2 ** min(24, 31 - bits) - 1)
