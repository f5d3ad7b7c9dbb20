"""The computations of the authors' released code that differ from the paper's equations.

Eqs. 1 and 3, the threshold and the partition are as in the paper; W^g of the paper is not used.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ranet_jax.ops.checks import check_shapes
from ranet_jax.ops.interaction import exact_einsum, masked_softmax

# Probabilities are clipped to this range before their divergence is taken.
PROBABILITY_RANGE = (0.001, 0.99)


def binary_divergence(probabilities: Float[Array, "n c"]) -> Float[Array, "n n"]:
    """How far pixel j is from pixel i at i's best category: E of the released code.

    Entry (i, j) is the Jensen-Shannon divergence, in nats, of the binary distributions (p, 1 - p)
    and (q, 1 - q), where p and q are the probabilities of pixels i and j for the arg-max category
    of pixel i (the first in case of ties), both clipped to [0.001, 0.99]. The table is therefore
    not symmetric. Its gradient is finite everywhere. Eq. 2 of the paper compares whole
    distributions instead.

    Args:
      probabilities: C, a distribution over the categories for each pixel.

    Raises:
      ValueError: `probabilities` is not two-dimensional.
    """
    check_shapes(probabilities=(probabilities, "n c"))
    best = jnp.argmax(probabilities, axis=-1)
    clipped = jnp.clip(probabilities, *PROBABILITY_RANGE)
    entropy = _binary_entropy(clipped)

    def own(table: Array) -> Array:
        return jnp.take_along_axis(table, best[:, None], axis=-1)

    mixture = _binary_entropy((own(clipped) + clipped.T[best]) / 2)
    return jnp.maximum(mixture - (own(entropy) + entropy.T[best]) / 2, 0.0)


def _binary_entropy(p: Array) -> Array:
    """Entropy in nats of (p, 1 - p), for p inside (0, 1)."""
    return -(p * jnp.log(p) + (1.0 - p) * jnp.log1p(-p))


def region_total(attention: Float[Array, "n n"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """Sum of F_ij over the pixels j of i's region, i included: `score_i` of the released code.

    Raises:
      ValueError: the shapes do not fit together.
    """
    check_shapes(attention=(attention, "n n"), labels=(labels, "n"))
    return jnp.where(labels[:, None] == labels[None, :], attention, 0.0).sum(axis=1)


def normalized_score(total: Float[Array, " n"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """Representative score J of the released code: each total as a share of its region.

    A pixel's `region_total` is divided by the number of pixels of its region that have a positive
    total. If there are none, it is left unchanged.

    Raises:
      ValueError: the shapes do not fit together.
    """
    return total / jnp.maximum(_positive(total, labels)[labels], 1).astype(total.dtype)


def _positive(total: Array, labels: Array) -> Array:
    """Number of positive totals in each region, at the index of its root."""
    count = check_shapes(total=(total, "n"), labels=(labels, "n"))["n"]
    return jax.ops.segment_sum((total > 0).astype(jnp.int32), labels, count)


def select_released(
    total: Float[Array, " n"], labels: Int[Array, " n"], per_region: int
) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """Choose the representatives of the released code: pixels in increasing order, padded to n.

    Consider a table with a row for each region and a column for each pixel. An entry is the pixel's
    total if the pixel belongs to the region, and 0 otherwise. The representatives are the distinct
    columns of the top K entries of every row; ties go to the smaller index. A region of fewer than
    K pixels therefore adds the first zeros of its row, whichever regions those pixels belong to.
    With K = 2

        pixel                0    1    2    3    4    top 2
        region {0, 1, 2, 3}  1.2  2.5  1.9  1.1  0    1 2
        region {4}           0    0    0    0    1.0  4 0    pixel 0 is the first zero

    gives indices (0 1 2 4 0) and valid (T T T T F).

    Args:
      total: the value by which pixels are ranked, `region_total` of each pixel; not negative.
      labels: the root pixel of each pixel's region.
      per_region: K, the number of entries that every row contributes.

    Returns:
      The indices of the representatives, followed by zeros, and a mask of the entries that are
      representatives.

    Raises:
      ValueError: the shapes do not fit together, or K is less than 1.
    """
    positive = _positive(total, labels)
    if per_region < 1:
        raise ValueError(f"K = {per_region} must be at least 1")
    total = jax.lax.stop_gradient(total)
    count = total.shape[0]
    pixels = jnp.arange(count, dtype=jnp.int32)

    # When pixels are sorted by region and then by decreasing total, a pixel's rank is its distance
    # from the first pixel of its region.
    order = jnp.lexsort((pixels, -total, labels))
    grouped = labels[order]
    rank = pixels - jnp.searchsorted(grouped, grouped, side="left").astype(jnp.int32)
    chosen = jnp.zeros(count, bool).at[order].set(rank < per_region) & (total > 0)

    # The zeros that a row needs to fill its K entries lie among the first K columns.
    first = pixels[:per_region]
    lacking = jnp.where(labels == pixels, per_region - positive, 0)
    zero = (labels[first][None, :] != pixels[:, None]) | (total[first] <= 0)[None, :]
    zeros_so_far = jnp.cumsum(zero.astype(jnp.int32), axis=1)
    brought = zero & (zeros_so_far <= lacking[:, None])
    chosen = chosen.at[first].max(brought.any(axis=0))

    indices = jnp.nonzero(chosen, size=count, fill_value=0)[0].astype(jnp.int32)
    return indices, pixels < chosen.sum()


def attend(
    queries: Float[Array, "q m"],
    features: Float[Array, "k m"],
    score: Float[Array, " k"],
    valid: Bool[Array, " k"],
) -> Float[Array, "q m"]:
    """Add to each query what it gathers from scored features: `Q + softmax(Q (S F)^T) F`.

    The released code takes this step three times, each time over all features, regardless of their
    region: representatives gather from all pixels in place of Eq. 6, representatives from one
    another in place of Eq. 7, and all pixels from the representatives in place of Eq. 8.

    Args:
      queries: Q; the result has their dtype, while logits, softmax and sums are float32.
      features: F.
      score: S, the representative score of each feature's pixel.
      valid: features that take part; if there are none, the queries are returned unchanged.

    Raises:
      ValueError: the shapes do not fit together.
    """
    check_shapes(
        queries=(queries, "q m"), features=(features, "k m"), score=(score, "k"), valid=(valid, "k")
    )
    wide, sources = queries.astype(jnp.float32), features.astype(jnp.float32)
    scored = sources * score.astype(jnp.float32)[:, None]
    logits = exact_einsum("qm,km->qk", wide, scored)
    weights = masked_softmax(logits, jnp.broadcast_to(valid[None, :], logits.shape))
    return (wide + exact_einsum("qk,km->qm", weights, sources)).astype(queries.dtype)
