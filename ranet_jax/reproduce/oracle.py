"""RANet with the regions of the truth: what its blocks could achieve if regions were perfect.

The label map is passed as a fourth channel of the images (label + 1, and 0 where it is ignored), so
that training and evaluation work as for any network. B and C of Eqs. 1-5 are made from it. The
network still computes coarse and boundary scores and learns them as usual, but they are not used
for the regions.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer
from ml_collections import ConfigDict

from ranet_jax import ops
from ranet_jax.errors import UserError
from ranet_jax.models import Outputs, build_model
from ranet_jax.models.context.ranet import RegionConstructionBlock
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.metadata import IGNORE_LABEL

# Share of a pixel's distribution that is spread evenly over all categories.
MIXED = 0.01


def true_maps(
    labels: Integer[Array, "H W"],
    shape: tuple[int, int],
    num_classes: int,
    align_corners: bool = True,
) -> tuple[Float[Array, "h w"], Float[Array, "h w c"]]:
    """B and C of a label map, on a feature grid of `shape` (h, w).

    B is 1 in the cells that hold a boundary (`ops.boundary_cells`), else 0. C is the category of
    the label at a pixel's place, with a share `MIXED` spread evenly over all categories; where the
    label is ignored, all categories are equally probable. `align_corners` says how the grid lies
    over the label map, as in `ops.nearest_grid`.
    """
    boundary, _ = ops.boundary_cells(labels, shape, align_corners=align_corners)
    size = (labels.shape[0], labels.shape[1])
    categories = labels[ops.nearest_grid(shape, size, align_corners)]
    uniform = jnp.full((*shape, num_classes), 1 / num_classes)
    certain = (1 - MIXED) * jax.nn.one_hot(categories, num_classes) + MIXED * uniform
    known = (categories != IGNORE_LABEL)[..., None]
    return boundary.astype(jnp.float32), jnp.where(known, certain, uniform)


class OracleSegmenter(nn.Module):
    """A RANet whose regions are those of a label map, the fourth channel of its images.

    It handles images with three channels as the network itself does. Its variables are the
    network's.
    """

    network: nn.Module
    num_classes: int
    align_corners: bool = True

    def setup(self) -> None:
        """Keep the network's variables at the top."""
        nn.share_scope(self, self.network)

    def __call__(
        self, images: Float[Array, "b H W _"], train: bool = False, with_regions: bool = False
    ) -> Outputs:
        """Score maps and regions, as from `Segmenter`."""
        if images.shape[-1] == 3:
            return self.network(images, train, with_regions)
        channel = jnp.round(images[..., 3]).astype(jnp.int32)
        labels = jnp.where(channel == 0, IGNORE_LABEL, channel - 1)

        def construct(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
            block, method = context.module, context.method_name
            if not (isinstance(block, RegionConstructionBlock) and method == "construct"):
                return call(*arguments, **keywords)
            boundary, _, kernel = arguments
            shape = boundary.shape[1:]
            maps = jax.vmap(lambda x: true_maps(x, shape, self.num_classes, self.align_corners))(
                labels
            )
            return call(*maps, kernel)

        with nn.intercept_methods(construct):
            return self.network(images[..., :3], train, with_regions)


def build_oracle(config: ConfigDict, num_classes: int, axis_name: str | None = None) -> nn.Module:
    """`build_model`'s segmenter as an oracle."""
    network = build_model(config, num_classes, axis_name)
    return OracleSegmenter(network, num_classes, config.model.align_corners)


def with_truth(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches with their label maps added to their images as a fourth channel.

    Raises:
      UserError: labels and images differ in size.
    """
    for batch in batches:
        image, label = batch["image"], batch["label"]
        if image.shape[:3] != label.shape:
            raise UserError(
                f"Labels of shape {label.shape} do not fit images of shape {image.shape}; the"
                " oracle needs label maps of the images' size."
            )
        truth = np.where(label == IGNORE_LABEL, 0, label + 1.0)[..., None].astype(image.dtype)
        yield batch | {"image": np.concatenate([image, truth], axis=-1)}
