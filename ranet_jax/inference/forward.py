"""The forward pass of a segmenter, compiled, and a bound on how many sizes are kept compiled."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict
from jaxtyping import Array

from ranet_jax.models import Outputs
from ranet_jax.models.outputs import INTERMEDIATES

# The network is compiled for each size that it sees, which takes megabytes; after this many sizes,
# everything compiled is dropped.
COMPILED_SIZES = 64

ScoreMaps = dict[str, Array]


class CompiledSizes:
    """A bound on what is kept compiled for images of many sizes, each seen at `views` scales.

    JAX can drop what it compiled for one function or for the whole process. Here it is the whole
    process, because the operations around the network, which belong to no function of this package,
    are compiled for each size too and take as much memory.
    """

    def __init__(self, views: int):
        self._views = views
        self._sizes: set[tuple[int, ...]] = set()

    def note(self, size: tuple[int, ...]) -> None:
        """Note a size of images; if it is one too many, drop everything that is compiled."""
        self._sizes.add(size)
        if len(self._sizes) * self._views > COMPILED_SIZES:
            jax.clear_caches()
            self._sizes = {size}


def make_forward(module: nn.Module) -> Callable[..., Outputs]:
    """Jit-compiled `forward(variables, images, with_regions=False)` of a segmenter.

    It compiles once for each shape of images, so keep the function instead of making it again.
    """

    @functools.partial(jax.jit, static_argnames="with_regions")
    def forward(variables: dict, images: Array, with_regions: bool = False) -> Outputs:
        outputs: Any = module.apply(variables, images, train=False, with_regions=with_regions)
        return outputs

    return forward


def make_observed_forward(module: nn.Module) -> Callable[..., tuple[Outputs, dict[str, Any]]]:
    """Jit-compiled `forward(variables, images)` of a segmenter, with regions and what blocks sow.

    Sown values are returned by their names, such as `models.outputs.REGION_INPUTS`.
    """

    @jax.jit
    def forward(variables: dict, images: Array) -> tuple[Outputs, dict[str, Any]]:
        outputs, state = module.apply(
            variables, images, train=False, with_regions=True, mutable=[INTERMEDIATES]
        )
        sown = flatten_dict(state.get(INTERMEDIATES, {}))
        return outputs, {path[-1]: value for path, (value,) in sown.items()}

    return forward


def score_maps(outputs: Outputs) -> ScoreMaps:
    """The score maps of a segmenter, by name: "fine", and "coarse" and "boundary" if any."""
    maps = {"fine": outputs.fine, "coarse": outputs.coarse, "boundary": outputs.boundary}
    return {name: scores for name, scores in maps.items() if scores is not None}
