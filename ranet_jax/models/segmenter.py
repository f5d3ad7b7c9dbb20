"""A semantic segmentation network: backbone, context block, classifier."""

import flax.linen as nn
from jaxtyping import Array, Float

from ranet_jax.models.layers import ChannelDropout, score_conv
from ranet_jax.models.outputs import Outputs


class Segmenter(nn.Module):
    """Backbone, context block and a 1 x 1 classifier of its features.

    `fine_boundary` adds a second classifier, for boundaries, on the same features.
    """

    backbone: nn.Module
    context: nn.Module
    num_classes: int
    dropout: float = 0.1
    fine_boundary: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "b H W 3"], train: bool = False, with_regions: bool = False
    ) -> Outputs:
        """Score maps of normalised images; the regions too if asked for and if there are any."""
        context = self.context(self.backbone(images, train), train)
        features = ChannelDropout(self.dropout, self.axis_name)(context.features, train)
        fine_boundary = score_conv(2, "fine_boundary_logit") if self.fine_boundary else None
        return Outputs(
            fine=score_conv(self.num_classes, "fine_logit")(features),
            coarse=context.coarse,
            boundary=context.boundary,
            regions=context.regions if with_regions else None,
            fine_boundary=fine_boundary(features) if fine_boundary else None,
        )
