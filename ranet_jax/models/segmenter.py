"""A semantic segmentation network: backbone, context block, classifiers."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.layers import ChannelDropout, ConvBN, Dtype, score_map
from ranet_jax.models.outputs import Outputs


class AuxiliaryHead(nn.Module):
    """Scores of an earlier stage: a 3 x 3 convolution to a quarter of its channels, a classifier.

    PSPNet (Zhao et al., 2017) and its successors train on these scores in addition to the last
    ones.
    """

    num_classes: int
    dropout: float = 0.1
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w m"], train: bool = False
    ) -> Float[Array, "b h w c"]:
        """Scores before softmax."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        reduced = ConvBN(max(1, inputs.shape[-1] // 4), name="reduce", **shared)(inputs, train)
        reduced = ChannelDropout(self.dropout, self.axis_name)(reduced, train)
        return score_map(reduced, self.num_classes, "logit")


class Segmenter(nn.Module):
    """Backbone, context block and a classifier of the block's features.

    The classifier is a convolution of `classifier_size` pixels per side. The block gets the
    backbone's stages, and the images as an additional stage "image". `fine_boundary` adds a second
    classifier, for boundaries, on the same features. If the block computes no coarse scores, an
    `auxiliary` head can compute them from the backbone's `auxiliary_stage`. In training, each
    branch of the block has a classifier.
    """

    backbone: nn.Module
    context: nn.Module
    num_classes: int
    dropout: float = 0.1
    fine_boundary: bool = False
    auxiliary: nn.Module | None = None
    auxiliary_stage: str = ""
    axis_name: str | None = None
    classifier_size: int = 1

    @nn.compact
    def __call__(
        self, images: Float[Array, "b H W 3"], train: bool = False, with_regions: bool = False
    ) -> Outputs:
        """Score maps of normalised images, and regions if requested and if there are any."""
        stages = self.backbone(images, train)
        context = self.context(stages | {"image": images}, train)
        coarse = context.coarse
        if self.auxiliary is not None:
            coarse = self.auxiliary(stages[self.auxiliary_stage], train)

        def drop(features: Array) -> Array:
            return ChannelDropout(self.dropout, self.axis_name)(features, train)

        features = drop(context.features)
        fine = score_map(features, self.num_classes, "fine_logit", self.classifier_size)
        if context.skipped is not None:
            fine += score_map(context.skipped, self.num_classes, "skipped_logit")
        branches = context.branches if train or self.is_initializing() else {}
        return Outputs(
            fine=fine,
            coarse=coarse,
            boundary=context.boundary,
            regions=context.regions if with_regions else None,
            fine_boundary=(
                score_map(features, 2, "fine_boundary_logit") if self.fine_boundary else None
            ),
            branches={
                name: score_map(drop(branch), self.num_classes, f"{name}_logit")
                for name, branch in branches.items()
            },
        )
