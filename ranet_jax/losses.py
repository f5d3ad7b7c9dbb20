"""The losses of the design: cross-entropy on fine, coarse and boundary scores."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8

from ranet_jax import ops
from ranet_jax.models import Outputs

Labels = UInt8[Array, "b H W"] | Int[Array, "b H W"]


def cross_entropy_sum(
    logits: Float[Array, "b H W c"],
    targets: Int[Array, "b H W"],
    valid: Bool[Array, "b H W"],
    class_weights: Sequence[float] = (),
) -> Float[Array, ""]:
    """Softmax cross-entropy summed over the valid pixels, in nats.

    With class weights, that of a pixel is multiplied by the weight of its target.

    A target that is not valid may hold any value: it is replaced before the logarithm, so that
    neither the sum nor its gradient sees it.
    """
    replaced = jnp.where(valid, targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, replaced)
    if class_weights:
        losses *= jnp.asarray(class_weights, losses.dtype)[replaced]
    return jnp.sum(jnp.where(valid, losses, 0.0))


def count_valid(labels: Labels, ignore_label: int) -> Float[Array, ""]:
    """Number of labels that are not ignored."""
    return jnp.sum(labels != ignore_label, dtype=jnp.float32)


def segmentation_loss(
    outputs: Outputs,
    labels: Labels,
    weights: dict[str, float],
    ignore_label: int,
    count: Float[Array, ""],
    class_weights: Sequence[float] = (),
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the losses of every output the network has, and each of them unweighted.

    Scores are resized to the labels' resolution. Fine and coarse scores learn the categories;
    boundary scores learn `ops.boundary_target` of the labels. Scores of branches learn the
    categories, each a term of its own.

    Args:
      outputs: score maps of the network.
      labels: categories; `ignore_label` takes no part in any of the losses.
      weights: factor by name of output: fine, coarse, boundary, fine_boundary, and branches for
        each of them.
      ignore_label: value of pixels without a category.
      count: pixels to average over: the valid ones of these labels or, where they are a part of
        a larger batch, of all of it. An all-ignored batch gives loss 0.
      class_weights: factor by category of a pixel's losses but for boundaries; none for 1. They
        do not change the number of pixels to average over.
    """
    shape = (labels.shape[1], labels.shape[2])
    valid = labels != ignore_label
    targets = labels.astype(jnp.int32)
    boundaries = jax.vmap(lambda x: ops.boundary_target(x, ignore_label))(labels).astype(jnp.int32)
    categories = {"fine": outputs.fine, "coarse": outputs.coarse} | outputs.branches
    edges = {"boundary": outputs.boundary, "fine_boundary": outputs.fine_boundary}
    terms = {}
    for scored, target, factors in ((categories, targets, class_weights), (edges, boundaries, ())):
        for name, scores in scored.items():
            if scores is not None:
                resized = ops.resize_bilinear(scores, shape)
                total = cross_entropy_sum(resized, target, valid, factors)
                terms[name] = total / jnp.maximum(count, 1.0)
    loss = jnp.float32(0)
    for name, term in terms.items():
        loss += weights["branches" if name in outputs.branches else name] * term
    return loss, terms
