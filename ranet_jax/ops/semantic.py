"""Eq. 2: how differently two pixels are classified."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.ops.checks import DISTRIBUTIONS, ArrayLike, as_arrays


def jensen_shannon(probabilities: Float[ArrayLike, "n c"]) -> Float[Array, "n n"]:
    """Compute the Jensen-Shannon divergence between the categories of all pixel pairs (E, Eq. 2).

    E_ij = H((p + q) / 2) - (H(p) + H(q)) / 2 for p = C_i and q = C_j, in bits. It is 0 for equal
    distributions and 1 for disjoint ones; 0 log 0 counts as 0.

               C               E     0     1     2
          0  1.0  0.0          0  0.00  0.31  1.00
          1  0.5  0.5          1  0.31  0.00  0.31
          2  0.0  1.0          2  1.00  0.31  0.00

    The derivative with respect to p is log2(2 p / (p + q)) / 2. It tends to minus infinity as p
    approaches 0 while q is positive; at p = 0 itself it is taken as 0, so that gradients stay
    finite. Memory is O(n^2) in the forward and backward passes, whatever the number of categories.

    Args:
      probabilities: category distribution of each pixel; every row sums to 1. To convert maps
        [h, w, c], as used by `region_map`, call `maps.reshape(-1, c)`; to convert back,
        `probabilities.reshape(h, w, c)`.

    Returns:
      E, in [0, 1] and exactly 0 on the diagonal.

    Raises:
      ValueError: `probabilities` is not two-dimensional, or its rows are not distributions.
    """
    (probabilities,) = as_arrays(probabilities=(probabilities, DISTRIBUTIONS, "n c"))
    n = probabilities.shape[0]

    # Recomputed in the backward pass, which would otherwise need a stored n x n table for each
    # category.
    @jax.checkpoint
    def pairwise_term(column: Array) -> Array:
        return _category_term(column[:, None], column[None, :])

    def add_category(total: Array, column: Array) -> tuple[Array, None]:
        return total + pairwise_term(column), None

    start = jnp.zeros((n, n), probabilities.dtype)
    total, _ = jax.lax.scan(add_category, start, probabilities.T)
    return _clipped(total)


def divergence_from(
    distribution: Float[Array, " c"], others: Float[Array, "n c"]
) -> Float[Array, " n"]:
    """The divergence between one pixel's categories and those of others: a row of E (Eq. 2)."""
    return _clipped(jnp.sum(_category_term(distribution[None, :], others), axis=-1))


def _clipped(total: Array) -> Array:
    """Clip away the rounding errors of the divergences; the gradient ignores the clip."""
    return total + jax.lax.stop_gradient(jnp.clip(total, 0, 1) - total)


@jax.custom_jvp
def _category_term(p: Array, q: Array) -> Array:
    """One category's share, (p log2(p/u) + q log2(q/u)) / 2 with u = (p + q) / 2.

    The sum over the categories equals the difference of entropies, without its cancellation error.
    """
    log_p, log_q = _log_ratios(p, q)
    return (p * log_p + q * log_q) / 2


@_category_term.defjvp
def _category_term_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    p, q = primals
    p_dot, q_dot = tangents
    log_p, log_q = _log_ratios(p, q)
    # d/dp: the derivatives of the logarithms cancel, since p/u + q/u = 2.
    return (p * log_p + q * log_q) / 2, (p_dot * log_p + q_dot * log_q) / 2


def _log_ratios(p: Array, q: Array) -> tuple[Array, Array]:
    """Return log2(p/u) and log2(q/u), each 0 where its numerator is 0."""
    middle = (p + q) / 2
    # Below this value the ratio would be computed from denormal numbers.
    smallest = 4 * jnp.finfo(p.dtype).tiny

    def log_ratio(x: Array) -> Array:
        positive = x >= smallest
        ratio = jnp.where(positive, x, 1) / jnp.where(positive, middle, 1)
        return jnp.where(positive, jnp.log2(ratio), 0)

    return log_ratio(p), log_ratio(q)
