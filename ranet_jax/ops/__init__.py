"""The mathematics of RANet as pure functions of one image's arrays.

    Eq.  function                 from                      to
    1    segment_max              boundary scores B         D, largest score between two pixels
    2    jensen_shannon           category distributions C  E, dissimilarity of two pixels
    3    region_attention         D, E                      F, attention of two pixels
    4    regularize               F, kernel W^g             F^g
    4    region_decision          F^g, threshold            G, whether two pixels go together
    -    partition                G                         labels, each pixel's region
    5    representative_score     F^g, labels               J, how well a pixel represents it
    1-5  region_map               B, C, W^g, threshold      labels and J at once, without the tables
    -    select_representatives   J, labels                 Representatives, Q regions of K pixels
    6    collect                  features A, J, regions    A^l, context within a region
    7    interact                 A^l, J, regions           A^g, context of all regions
    8    distribute               A, J, regions, A^g        O, every pixel's context
    1-4  pixel_attention          B, C, W^g, a pixel        its rows of D, E, F and F^g
    1    segment_samples          B, two pixels             the samples between them
    6    collection_weights       A, J, regions, a slot     W^l of its representatives
    7    interaction_weights      A^l, J, regions           W^g between all representatives
    8    distribution_weights     A, J, A^g, a pixel        its W^d
    -    boundary_target          label map                 pixels close to another category
    -    boundary_cells           label map                 feature pixels that hold a boundary
    -    resize_bilinear          maps                      maps of another size
    -    nearest_indices          numbers of places         places of one axis closest to another's
    -    nearest_grid             sizes of grid and image   pixels closest to the places of a grid
    -    adaptive_average_pool    maps                      their means over a grid

Pixels are numbered row-major, n = h * w: `maps.reshape(-1, c)` turns maps [h, w, c] into rows, and
`rows.reshape(h, w, c)` turns rows into maps. Use `jax.vmap` for batches.

Arrays may be JAX arrays, NumPy arrays or nested lists of numbers. A `ValueError` names the argument
whose dtype, rank or size is wrong. Outside of `jax.jit` and other transformations it also names an
argument that holds logits instead of probabilities, or numbers of pixels that do not exist.

`ranet_jax.ops.reference` implements Eqs. 1-8 a second time as NumPy loops, for comparison.
"""

from ranet_jax.ops.boundary import segment_max
from ranet_jax.ops.interaction import (
    collect,
    collection_weights,
    distribute,
    distribution_weights,
    interact,
    interaction_weights,
)
from ranet_jax.ops.pixel import PixelAttention, SegmentSamples, pixel_attention, segment_samples
from ranet_jax.ops.pool import adaptive_average_pool
from ranet_jax.ops.regions import (
    Representatives,
    partition,
    region_attention,
    region_decision,
    regularize,
    representative_score,
    select_representatives,
)
from ranet_jax.ops.resize import nearest_grid, nearest_indices, resize_bilinear
from ranet_jax.ops.semantic import jensen_shannon
from ranet_jax.ops.streaming import region_map
from ranet_jax.ops.targets import boundary_cells, boundary_target

__all__ = [
    "PixelAttention",
    "Representatives",
    "SegmentSamples",
    "adaptive_average_pool",
    "boundary_cells",
    "boundary_target",
    "collect",
    "collection_weights",
    "distribute",
    "distribution_weights",
    "interact",
    "interaction_weights",
    "jensen_shannon",
    "nearest_grid",
    "nearest_indices",
    "partition",
    "pixel_attention",
    "region_attention",
    "region_decision",
    "region_map",
    "regularize",
    "representative_score",
    "resize_bilinear",
    "segment_max",
    "segment_samples",
    "select_representatives",
]
