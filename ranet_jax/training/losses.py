"""Losses of training: cross-entropy on fine, coarse and boundary scores, and Lovász-softmax."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.config import check_value
from ranet_jax.models import Outputs

Labels = UInt8[Array, "b H W"] | Int[Array, "b H W"]
# Terms of the loss, each with a weight of its name in `config.loss`.
TERMS = ("fine", "coarse", "boundary", "fine_boundary", "branches", "lovasz")


@dataclass(frozen=True)
class BoundaryLoss:
    """What boundary scores learn, and how much the two kinds of pixels count.

    Attributes:
      target: "cells", `ops.boundary_cells` on the grid of the scores; or "pixels", the band of
        `ops.boundary_target` at the labels' resolution, to which the scores are resized.
      positive_weight: factor on the loss of boundary pixels, which are in the minority.
      focus: gamma of the focal loss (Lin et al., 2017), a factor (1 - p)^gamma with p the
        probability of the right answer; 0 for plain cross-entropy.

    Raises:
      UserError: the target is unknown, or a number is out of its range.
    """

    target: str = "cells"
    positive_weight: float = 1.0
    focus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("target", "positive_weight", "focus"):
            check_value(f"loss.boundary_{name}", getattr(self, name))

    @classmethod
    def from_config(cls, loss: ConfigDict) -> "BoundaryLoss":
        """Read the fields `boundary_*` of the `loss` section of a config."""
        return cls(loss.boundary_target, loss.boundary_positive_weight, loss.boundary_focus)

    def sum(
        self,
        scores: Float[Array, "b h w 2"],
        labels: Labels,
        ignore_label: int,
        align_corners: bool = True,
    ) -> Float[Array, ""]:
        """Loss of boundary scores before softmax, summed over the labelled pixels, in nats.

        A cell counts once for each of its labelled pixels. `align_corners` says how the grid of the
        scores lies over the labels, as in `ops.resize_bilinear`.
        """
        if self.target == "cells":
            grid = (scores.shape[1], scores.shape[2])
            boundary, labelled = jax.vmap(
                lambda x: ops.boundary_cells(x, grid, ignore_label, align_corners=align_corners)
            )(labels)
        else:
            boundary = jax.vmap(lambda x: ops.boundary_target(x, ignore_label))(labels)
            labelled = (labels != ignore_label).astype(jnp.float32)
            shape = (labels.shape[1], labels.shape[2])
            scores = ops.resize_bilinear(scores, shape, align_corners)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, boundary.astype(jnp.int32))
        if self.focus > 0:
            wrong = jnp.maximum(-jnp.expm1(-losses), jnp.finfo(losses.dtype).tiny)
            losses *= wrong**self.focus
        losses *= jnp.where(boundary, self.positive_weight, 1.0)
        return jnp.sum(labelled * losses)


def cross_entropy_sum(
    logits: Float[Array, "b H W c"],
    targets: Int[Array, "b H W"],
    valid: Bool[Array, "b H W"],
    class_weights: Sequence[float] = (),
) -> Float[Array, ""]:
    """Softmax cross-entropy summed over the valid pixels, in nats.

    With class weights, the loss of a pixel is multiplied by the weight of its target.

    A target that is not valid may hold any value: it is replaced before the logarithm, so that
    neither the sum nor its gradient sees it.
    """
    replaced = jnp.where(valid, targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, replaced)
    if class_weights:
        losses *= jnp.asarray(class_weights, losses.dtype)[replaced]
    return jnp.sum(jnp.where(valid, losses, 0.0))


def lovasz_softmax_sum(
    logits: Float[Array, "b H W c"],
    targets: Int[Array, "b H W"],
    valid: Bool[Array, "b H W"],
) -> Float[Array, ""]:
    """Lovász-softmax loss (Berman et al., 2018) of each image times its valid pixels, summed.

    For a category, the error of a pixel is 1 - p where the pixel is of the category and p where it
    is not, with p the category's probability. The errors are sorted, largest first, and the k-th
    one is weighted by how much the Jaccard loss (1 - IoU) grows when the k-th pixel is wrong, too:

        error  of the category  IoU if this pixel and those before are wrong  counts with
         0.9         yes                          1 / 2                          1 / 2
         0.6         no                           1 / 3                          1 / 6
         0.2         yes                          0 / 3                          1 / 3

    With probabilities 0 and 1 this is 1 - IoU. An image's loss is the mean over the categories
    that occur among its valid targets; it is between 0 and 1. Other targets may hold any value.
    """
    categories = jnp.arange(logits.shape[-1])
    probabilities = jnp.moveaxis(jax.nn.softmax(logits), -1, 0)

    def of_image(probabilities: Array, targets: Array, valid: Array) -> Array:
        hits = jax.vmap(lambda category: valid & (targets == category))(categories)
        losses = jax.vmap(_jaccard_loss, (0, 0, None))(probabilities, hits, valid)
        present = hits.any((1, 2))
        count = jnp.maximum(jnp.sum(present, dtype=losses.dtype), 1.0)
        return jnp.sum(valid, dtype=losses.dtype) * jnp.sum(losses, where=present) / count

    return jnp.sum(jax.vmap(of_image, (1, 0, 0))(probabilities, targets, valid))


def _jaccard_loss(
    probability: Float[Array, "H W"], hits: Bool[Array, "H W"], valid: Bool[Array, "H W"]
) -> Float[Array, ""]:
    """The loss of one category in one image; `hits` marks its valid pixels of the category."""
    errors = jnp.where(hits, 1.0 - probability, probability)
    errors = jnp.where(valid, errors, 0.0).ravel()
    # Pixels that are not valid come last, behind valid ones without an error.
    order = jnp.argsort(jnp.where(valid.ravel(), -errors, 1.0))
    sorted_hits = hits.ravel()[order]
    total = jnp.sum(sorted_hits, dtype=errors.dtype)
    intersection = total - jnp.cumsum(sorted_hits, dtype=errors.dtype)
    union = total + jnp.cumsum(~sorted_hits, dtype=errors.dtype)
    # A false negative takes 1 from the intersection, a false positive adds 1 to the union.
    false_negative = 1.0 / jnp.maximum(union, 1.0)
    false_positive = intersection / jnp.maximum(union * (union - 1.0), 1.0)
    return jnp.vdot(jnp.where(sorted_hits, false_negative, false_positive), errors[order])


def count_valid(labels: Labels, ignore_label: int) -> Float[Array, ""]:
    """Number of labels that are not ignored."""
    return jnp.sum(labels != ignore_label, dtype=jnp.float32)


def segmentation_loss(
    outputs: Outputs,
    labels: Labels,
    weights: Mapping[str, float],
    ignore_label: int,
    count: Float[Array, ""],
    class_weights: Sequence[float] = (),
    boundary_loss: BoundaryLoss = BoundaryLoss(),
    align_corners: bool = True,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the losses of all outputs of the network, and each loss without its weight.

    Fine and coarse scores, resized to the labels' resolution, learn the categories, and so do the
    scores of branches, with one term per branch. Boundary scores learn what `boundary_loss` says.

    Args:
      outputs: score maps of the network.
      labels: categories; `ignore_label` takes no part in any of the losses.
      weights: factor by name of output: fine, coarse, boundary, fine_boundary; branches, for every
        branch; and lovasz, for the Lovász-softmax loss of the fine scores, a term that is left out
        if its weight is missing or 0.
      ignore_label: value of pixels without a category.
      count: number of pixels to average over: the valid pixels of these labels or, if the labels
        are a part of a larger batch, those of the whole batch. An all-ignored batch gives loss 0.
      class_weights: factor on a pixel's cross-entropy, by its category; empty for 1. It does not
        apply to boundaries, and does not change the number of pixels to average over.
      boundary_loss: target and weighting of the boundary losses.
      align_corners: how scores are resized to the labels' resolution, as in `ops.resize_bilinear`.
    """
    shape = (labels.shape[1], labels.shape[2])
    valid = labels != ignore_label
    targets = labels.astype(jnp.int32)
    categories = {"fine": outputs.fine, "coarse": outputs.coarse} | outputs.branches
    boundaries = {"boundary": outputs.boundary, "fine_boundary": outputs.fine_boundary}
    resized = {
        name: ops.resize_bilinear(scores, shape, align_corners)
        for name, scores in categories.items()
        if scores is not None
    }
    sums = {
        name: cross_entropy_sum(scores, targets, valid, class_weights)
        for name, scores in resized.items()
    }
    sums |= {
        name: boundary_loss.sum(scores, labels, ignore_label, align_corners)
        for name, scores in boundaries.items()
        if scores is not None
    }
    if weights.get("lovasz", 0.0) > 0:
        sums["lovasz"] = lovasz_softmax_sum(resized["fine"], targets, valid)
    terms = {name: total / jnp.maximum(count, 1.0) for name, total in sums.items()}
    loss = jnp.float32(0)
    for name, term in terms.items():
        loss += weights["branches" if name in outputs.branches else name] * term
    return loss, terms
