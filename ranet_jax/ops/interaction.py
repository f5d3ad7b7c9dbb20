"""Eqs. 6-8: the exchange of context within and between regions.

Everything is a dense masked product. Logits, softmax and weighted sums are float32 whatever the
features are, and each result is cast back to the dtype of the features. Gradients flow through
the features and the score; the selection of representatives has none.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ranet_jax.ops.regions import Representatives
from ranet_jax.ops.shapes import check_shapes


def collect(
    features: Float[Array, "n m"],
    score: Float[Array, " n"],
    labels: Int[Array, " n"],
    representatives: Representatives,
) -> Float[Array, "q k m"]:
    """Let each representative gather from the other pixels of its region (Eq. 6).

    A^l_qk = J(p_qk) A(p_qk) + the sum of W^l_qki J_i A_i over the region's pixels that are not
    representatives, the weights being a softmax of A(p_qk) . (J_i A_i). A region made of
    representatives alone adds nothing.

    Args:
      features: A, one row a pixel.
      score: J, in [0, 1].
      labels: region label of each pixel.
      representatives: the chosen pixels.

    Returns:
      A^l of each place, 0 in empty ones.

    Raises:
      ValueError: the arguments disagree about a size.
    """
    n = _num_pixels(features, score, labels, representatives)
    roots, indices, valid = representatives
    a = features.astype(jnp.float32)
    scored = score.astype(jnp.float32)[:, None] * a

    chosen = jnp.zeros(n, bool).at[jnp.where(valid, indices, n)].set(True, mode="drop")
    sources = (labels[None, :] == roots[:, None]) & ~chosen[None, :]
    weights = masked_softmax(exact_einsum("qkm,im->qki", a[indices], scored), sources[:, None, :])
    local = scored[indices] + exact_einsum("qki,im->qkm", weights, scored)
    return jnp.where(valid[:, :, None], local, 0).astype(features.dtype)


def interact(
    local: Float[Array, "q k m"], score: Float[Array, " n"], representatives: Representatives
) -> Float[Array, "q k m"]:
    """Let each representative gather from those of every other region (Eq. 7).

    A^g_qk = J(p_qk) A^l_qk + the sum of W^g_qski J(p_si) A^l_si over the places i of the other
    slots s, the weights being a softmax of A^l_qk . (J(p_si) A^l_si) within each slot s.

    Args:
      local: A^l of each place.
      score: J, in [0, 1].
      representatives: the chosen pixels.

    Returns:
      A^g of each place, 0 in empty ones.

    Raises:
      ValueError: the arguments disagree about a size.
    """
    roots, indices, valid = representatives
    sizes = check_shapes(
        local=(local, "q k m"),
        score=(score, "n"),
        roots=(roots, "q"),
        indices=(indices, "q k"),
        valid=(valid, "q k"),
    )
    a = local.astype(jnp.float32)
    scored = score.astype(jnp.float32)[indices][:, :, None] * a

    others = ~jnp.eye(sizes["q"], dtype=bool)
    sources = others[:, None, :, None] & valid[None, None, :, :]
    weights = masked_softmax(exact_einsum("qkm,sim->qksi", a, scored), sources)
    context = scored + exact_einsum("qksi,sim->qkm", weights, scored)
    return jnp.where(valid[:, :, None], context, 0).astype(local.dtype)


def distribute(
    features: Float[Array, "n m"],
    score: Float[Array, " n"],
    labels: Int[Array, " n"],
    representatives: Representatives,
    context: Float[Array, "q k m"],
) -> Float[Array, "n m"]:
    """Let every pixel gather from the representatives of its own region (Eq. 8).

    O_i = J_i A_i + the sum of W^d_qki J(p_qk) A^g_qk over the region's representatives, the
    weights being a softmax of A_i . (J(p_qk) A^g_qk). A pixel whose region has no slot keeps
    O_i = J_i A_i.

    Args:
      features: A, one row a pixel.
      score: J, in [0, 1].
      labels: region label of each pixel.
      representatives: the chosen pixels.
      context: A^g of each place.

    Returns:
      O, one row a pixel.

    Raises:
      ValueError: the arguments disagree about a size.
    """
    n = _num_pixels(features, score, labels, representatives)
    roots, indices, valid = representatives
    sizes = check_shapes(
        features=(features, "n m"), indices=(indices, "q k"), context=(context, "q k m")
    )
    a, j = features.astype(jnp.float32), score.astype(jnp.float32)
    places = sizes["q"] * sizes["k"]
    scored = j[indices][:, :, None] * context.astype(jnp.float32)
    scored = scored.reshape(places, sizes["m"])

    sources = (labels[:, None] == roots[None, :])[:, :, None] & valid[None, :, :]
    weights = masked_softmax(exact_einsum("im,pm->ip", a, scored), sources.reshape(n, places))
    return (j[:, None] * a + exact_einsum("ip,pm->im", weights, scored)).astype(features.dtype)


def masked_softmax(
    logits: Float[Array, "*rows places"], mask: Bool[Array, "*#rows places"]
) -> Float[Array, "*rows places"]:
    """Take the softmax over the last axis where the mask is set, and 0 elsewhere.

    A row without any place is 0 throughout, and so is its gradient.

        logits     mask        weights
        1  1  9    1  1  0     0.5  0.5  0
        1  1  9    0  0  0       0    0  0
    """
    peak = jnp.max(jnp.where(mask, logits, -jnp.inf), axis=-1, keepdims=True)
    peak = jax.lax.stop_gradient(jnp.where(peak > -jnp.inf, peak, 0))
    # The inner where keeps masked logits from overflowing, which would make NaN gradients.
    weights = jnp.where(mask, jnp.exp(jnp.where(mask, logits - peak, 0)), 0)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1)


def _num_pixels(
    features: Array, score: Array, labels: Array, representatives: Representatives
) -> int:
    """Check the sizes that Eqs. 6 and 8 share, and return the number of pixels."""
    sizes = check_shapes(
        features=(features, "n m"),
        score=(score, "n"),
        labels=(labels, "n"),
        roots=(representatives.roots, "q"),
        indices=(representatives.indices, "q k"),
        valid=(representatives.valid, "q k"),
    )
    return sizes["n"]


def exact_einsum(subscripts: str, left: Array, right: Array) -> Array:
    """Contract in true float32, which accelerators round down by default."""
    return jnp.einsum(subscripts, left, right, precision=jax.lax.Precision.HIGHEST)
