"""What context blocks and segmenters return."""

from flax import struct
from jaxtyping import Array, Float, Int

from ranet_jax.ops import Representatives

# A block that computes its regions by the paper's equations sows the inputs of the equations in
# this collection, for callers that request it: boundary probabilities [b, h, w], category
# distributions [b, h, w, c] and W^g [k, k]; and the features A [b, h, w, m] that its regions
# exchange.
INTERMEDIATES = "intermediates"
REGION_INPUTS, INTERACTION_INPUTS = "region_inputs", "interaction_inputs"


@struct.dataclass
class Regions:
    """The partition of a batch of feature maps, n = h * w pixels each, row-major.

    `labels` holds the root pixel of each pixel's region and `score` the representative score J.
    `representatives` has the leading batch axis too.
    """

    labels: Int[Array, "*b n"]
    score: Float[Array, "*b n"]
    representatives: Representatives


@struct.dataclass
class ContextOutput:
    """Features to classify, and the scores and regions that a block computes along the way, if any.

    `branches` holds, by name, the features of parts of the block that are classified as well.
    `skipped` holds features of an earlier stage, if the block uses them; they have a separate
    classifier, and its scores are added.
    """

    features: Float[Array, "b h w m"]
    coarse: Float[Array, "b h w c"] | None = None
    boundary: Float[Array, "b h w 2"] | None = None
    regions: Regions | None = None
    branches: dict[str, Float[Array, "b h w m"]] = struct.field(default_factory=dict)
    skipped: Float[Array, "b h w l"] | None = None


@struct.dataclass
class Outputs:
    """Score maps before softmax, at feature resolution, in float32.

    `fine` and `coarse` have one channel per category; `boundary` and `fine_boundary` have two
    channels, the second for "boundary". Coarse scores of an auxiliary head have the resolution of
    its stage. An output that the network does not compute is None; `regions` are returned only on
    request. In training, `branches` holds the category scores of parts of the context block by
    name.
    """

    fine: Float[Array, "b h w c"]
    coarse: Float[Array, "b h2 w2 c"] | None = None
    boundary: Float[Array, "b h w 2"] | None = None
    regions: Regions | None = None
    fine_boundary: Float[Array, "b h w 2"] | None = None
    branches: dict[str, Float[Array, "b h w c"]] = struct.field(default_factory=dict)
