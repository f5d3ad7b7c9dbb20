"""Eqs. 6-8: the exchange of context within and between regions.

Eqs. 6 and 8 work on pixels sorted into blocks of one region each (`ranet_jax.ops.blocks`), so that
nothing is computed across regions; Eq. 7 is a masked product of all representatives. Logits,
softmax and weighted sums are float32 whatever the dtype of the features, and each result is cast
back to that dtype. Gradients flow through the features and the score; the selection of
representatives has no gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from ranet_jax.ops.blocks import (
    Blocks,
    block_size,
    into_blocks,
    inverse,
    of_slots,
    out_of_blocks,
    sort_into_blocks,
    take_rows,
)
from ranet_jax.ops.checks import (
    BOOLS,
    FLOATS,
    PIXELS,
    ROOTS,
    ArrayLike,
    Checked,
    as_arrays,
    index_below,
)
from ranet_jax.ops.regions import Representatives


def collect(
    features: Float[ArrayLike, "n m"],
    score: Float[ArrayLike, " n"],
    labels: Integer[ArrayLike, " n"],
    representatives: Representatives,
) -> Float[Array, "q k m"]:
    """Let each representative gather from the other pixels of its region (Eq. 6).

    A^l_qk = J(p_qk) A(p_qk) + the sum of W^l_qki J_i A_i over the region's pixels that are not
    representatives, where the weights are a softmax of A(p_qk) . (J_i A_i). If a region has only
    representatives, the sum is 0.

    Args:
      features: A, one row per pixel.
      score: J, in [0, 1].
      labels: region label of each pixel.
      representatives: the chosen pixels, all different.

    Returns:
      A^l of each place, 0 in empty places.

    Raises:
      ValueError: the arguments disagree about a size, or name pixels outside of [0, n).
    """
    features, score, labels, *places = as_arrays(
        **_of_pixels(features, score, labels), **_of_places(representatives)
    )
    representatives = Representatives(*places)
    a, j = features.astype(jnp.float32), score.astype(jnp.float32)
    valid = representatives.valid
    num_slots, per_slot = valid.shape
    at_places, place_of_pixel = _places(representatives, score.shape[0])
    own = take_rows(a, at_places, place_of_pixel).reshape(num_slots, per_slot, -1)
    own_score = take_rows(j, at_places, place_of_pixel).reshape(num_slots, per_slot, 1)

    blocks = _blocks(labels, representatives)
    slot = blocks.slot
    others = place_of_pixel == valid.size
    sources = others.at[blocks.pixels].get(mode="fill", fill_value=False)[:, None, :]
    block_a, block_j = into_blocks(a, blocks), into_blocks(j, blocks)
    products = exact_einsum("bim,bkm->bik", block_a, of_slots(own, slot))
    logits = (products * block_j[:, :, None]).swapaxes(1, 2)
    peak = jax.ops.segment_max(_peak(logits, sources), slot, num_slots, indices_are_sorted=True)
    weights = _exponentials(logits, sources, of_slots(peak, slot))
    scored_weights = weights * block_j[:, None, :]
    gathered = _sum_by_slot(exact_einsum("bki,bim->bkm", scored_weights, block_a), slot, num_slots)
    total = _sum_by_slot(jnp.sum(weights, axis=2), slot, num_slots)[:, :, None]
    local = own_score * own + gathered / jnp.where(total > 0, total, 1)
    return jnp.where(valid[:, :, None], local, 0).astype(features.dtype)


def interact(
    local: Float[ArrayLike, "q k m"],
    score: Float[ArrayLike, " n"],
    representatives: Representatives,
) -> Float[Array, "q k m"]:
    """Let each representative gather from those of every other region (Eq. 7).

    A^g_qk = J(p_qk) A^l_qk + the sum of W^g_qski J(p_si) A^l_si over the places i of the other
    slots s, where the weights are a softmax of A^l_qk . (J(p_si) A^l_si) within each slot s.

    Args:
      local: A^l of each place.
      score: J, in [0, 1].
      representatives: the chosen pixels.

    Returns:
      A^g of each place, 0 in empty places.

    Raises:
      ValueError: the arguments disagree about a size, or name pixels outside of [0, n).
    """
    local, score, _, indices, valid = as_arrays(
        local=(local, FLOATS, "q k m"), score=(score, FLOATS, "n"), **_of_places(representatives)
    )
    a = local.astype(jnp.float32)
    scored = score.astype(jnp.float32)[indices][:, :, None] * a

    weights = _interaction_weights(a, scored, valid)
    context = scored + exact_einsum("qksi,sim->qkm", weights, scored)
    return jnp.where(valid[:, :, None], context, 0).astype(local.dtype)


def distribute(
    features: Float[ArrayLike, "n m"],
    score: Float[ArrayLike, " n"],
    labels: Integer[ArrayLike, " n"],
    representatives: Representatives,
    context: Float[ArrayLike, "q k m"],
) -> Float[Array, "n m"]:
    """Let every pixel gather from the representatives of its own region (Eq. 8).

    O_i = J_i A_i + the sum of W^d_qki J(p_qk) A^g_qk over the region's representatives, where the
    weights are a softmax of A_i . (J(p_qk) A^g_qk). A pixel whose region has no slot keeps
    O_i = J_i A_i.

    Args:
      features: A, one row per pixel.
      score: J, in [0, 1].
      labels: region label of each pixel.
      representatives: the chosen pixels, all different.
      context: A^g of each place.

    Returns:
      O, one row per pixel.

    Raises:
      ValueError: the arguments disagree about a size, or name pixels outside of [0, n).
    """
    features, score, labels, context, *places = as_arrays(
        **_of_pixels(features, score, labels),
        context=(context, FLOATS, "q k m"),
        **_of_places(representatives),
    )
    representatives = Representatives(*places)
    valid = representatives.valid
    a, j = features.astype(jnp.float32), score.astype(jnp.float32)
    own_score = take_rows(j, *_places(representatives, score.shape[0])).reshape(*valid.shape, 1)

    blocks = _blocks(labels, representatives)
    scored = of_slots(own_score * context.astype(jnp.float32), blocks.slot)
    logits = exact_einsum("bim,bkm->bik", into_blocks(a, blocks), scored)
    weights = masked_softmax(logits, of_slots(valid, blocks.slot)[:, None, :])
    gathered = out_of_blocks(exact_einsum("bik,bkm->bim", weights, scored), blocks)
    return (j[:, None] * a + gathered).astype(features.dtype)


def collection_weights(
    features: Float[ArrayLike, "n m"],
    score: Float[ArrayLike, " n"],
    labels: Integer[ArrayLike, " n"],
    representatives: Representatives,
    slot: Any,
) -> Float[Array, "k n"]:
    """How much each representative of one region gathers from each pixel (W^l of Eq. 6).

    Each row sums to 1, or is 0 if its place is empty or all of the region's pixels are
    representatives.

    Args:
      features: A, one row per pixel.
      score: J, in [0, 1].
      labels: region label of each pixel.
      representatives: the chosen pixels, all different.
      slot: the slot of the region, an integer in [0, q); it may be traced.

    Raises:
      ValueError: the arguments disagree about a size, or name pixels or a slot that do not exist.
    """
    features, score, labels, *places = as_arrays(
        **_of_pixels(features, score, labels), **_of_places(representatives)
    )
    slot = index_below("slot", slot, places[0].shape[0])
    root, indices, valid = (place[slot] for place in places)
    n = score.shape[0]
    chosen = jnp.zeros(n, bool).at[jnp.where(valid, indices, n)].set(True, mode="drop")
    a, scored = precise(features), precise(score)[:, None] * precise(features)
    sources = (labels == root) & ~chosen
    logits = exact_einsum("km,im->ki", a[indices], scored)
    return masked_softmax(logits, valid[:, None] & sources[None, :])


def interaction_weights(
    local: Float[ArrayLike, "q k m"],
    score: Float[ArrayLike, " n"],
    representatives: Representatives,
) -> Float[Array, "q k q k"]:
    """How much each representative gathers from those of every other region (W^g of Eq. 7).

    The last axis sums to 1 for each other region that has a slot. It is 0 for the representative's
    own region and for empty slots, and everywhere for an empty place.

    Args:
      local: A^l of each place.
      score: J, in [0, 1].
      representatives: the chosen pixels.

    Raises:
      ValueError: the arguments disagree about a size, or name pixels outside of [0, n).
    """
    local, score, _, indices, valid = as_arrays(
        local=(local, FLOATS, "q k m"), score=(score, FLOATS, "n"), **_of_places(representatives)
    )
    a = precise(local)
    weights = _interaction_weights(a, precise(score)[indices][:, :, None] * a, valid)
    return jnp.where(valid[:, :, None, None], weights, 0)


def _interaction_weights(local: Array, scored: Array, valid: Array) -> Array:
    """Compute W^g of each place, including empty places, from A^l and J A^l."""
    others = ~jnp.eye(valid.shape[0], dtype=bool)
    sources = others[:, None, :, None] & valid[None, None, :, :]
    return masked_softmax(exact_einsum("qkm,sim->qksi", local, scored), sources)


def distribution_weights(
    features: Float[ArrayLike, "n m"],
    score: Float[ArrayLike, " n"],
    labels: Integer[ArrayLike, " n"],
    representatives: Representatives,
    context: Float[ArrayLike, "q k m"],
    pixel: Any,
) -> Float[Array, "q k"]:
    """How much one pixel gathers from each representative (W^d of Eq. 8).

    The weights of the representatives of the pixel's own region sum to 1; all others are 0.

    Args:
      features: A, one row per pixel.
      score: J, in [0, 1].
      labels: region label of each pixel.
      representatives: the chosen pixels, all different.
      context: A^g of each place.
      pixel: number of the pixel, an integer in [0, n); it may be traced.

    Raises:
      ValueError: the arguments disagree about a size, or name pixels outside of [0, n).
    """
    features, score, labels, context, roots, indices, valid = as_arrays(
        **_of_pixels(features, score, labels),
        context=(context, FLOATS, "q k m"),
        **_of_places(representatives),
    )
    pixel = index_below("pixel", pixel, score.shape[0])
    scored = precise(score)[indices][:, :, None] * precise(context)
    logits = exact_einsum("m,qkm->qk", precise(features)[pixel], scored)
    own = (roots == labels[pixel])[:, None] & valid
    return masked_softmax(logits.reshape(-1), own.reshape(-1)).reshape(valid.shape)


def masked_softmax(
    logits: Float[Array, "*rows places"], mask: Bool[Array, "*#rows places"]
) -> Float[Array, "*rows places"]:
    """Take the softmax over the last axis where the mask is set, and 0 elsewhere.

    A row whose mask is nowhere set is 0 throughout, and so is its gradient.

        logits     mask        weights
        1  1  9    1  1  0     0.5  0.5  0
        1  1  9    0  0  0       0    0  0
    """
    weights = _exponentials(logits, mask, _peak(logits, mask))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1)


def _peak(logits: Array, mask: Array) -> Array:
    """The largest logit of each row where the mask is set, -inf if the mask is nowhere set."""
    return jnp.max(jnp.where(mask, jax.lax.stop_gradient(logits), -jnp.inf), axis=-1)


@jax.custom_jvp
def _exponentials(logits: Array, mask: Array, peak: Array) -> Array:
    """exp(logits - peak) where the mask is set, 0 elsewhere, with a constant peak for each row."""
    peak = peak[..., None]
    # If the logits are products, the compiler may fuse them, unrounded, with the subtraction. The
    # difference may then exceed 0, and for large logits by so much that exp overflows. The
    # comparison sets it to 0.
    powers = jnp.exp(jnp.where(logits >= peak, 0, logits - peak))
    return jnp.where(mask, powers, 0)


@_exponentials.defjvp
def _exponentials_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    powers = _exponentials(*primals)
    return powers, powers * tangents[0]


def _sum_by_slot(values: Array, slot: Array, num_slots: int) -> Array:
    """Sum the rows of the blocks of each slot."""
    return jax.ops.segment_sum(values, slot, num_slots, indices_are_sorted=True)


def _blocks(labels: Array, representatives: Representatives) -> Blocks:
    """Sort the pixels into blocks of a size that suits the numbers of pixels and slots."""
    roots = representatives.roots
    return sort_into_blocks(labels, roots, block_size(labels.shape[0], roots.shape[0]))


def _places(representatives: Representatives, n: int) -> tuple[Array, Array]:
    """Return the pixel of each place (n if empty), and the place of each pixel (q * k if none)."""
    pixels = jnp.where(representatives.valid, representatives.indices, n).ravel()
    return pixels, inverse(pixels, n)


def _of_pixels(features: ArrayLike, score: ArrayLike, labels: ArrayLike) -> dict[str, Checked]:
    """The arguments of Eqs. 6 and 8 that have an entry for each pixel, for `as_arrays`."""
    return {
        "features": (features, FLOATS, "n m"),
        "score": (score, FLOATS, "n"),
        "labels": (labels, PIXELS, "n"),
    }


def _of_places(representatives: Representatives) -> dict[str, Checked]:
    """The fields of `Representatives`, for `as_arrays`."""
    return {
        "roots": (representatives.roots, ROOTS, "q"),
        "indices": (representatives.indices, PIXELS, "q k"),
        "valid": (representatives.valid, BOOLS, "q k"),
    }


def precise(x: Array) -> Array:
    """Cast an array to float32, unless it is float64."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def exact_einsum(subscripts: str, left: Array, right: Array) -> Array:
    """Contract in full float32, where accelerators by default use a lower precision."""
    return jnp.einsum(subscripts, left, right, precision=jax.lax.Precision.HIGHEST)
