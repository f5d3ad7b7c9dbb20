"""The regions of a scene for any threshold, number of regions and number of representatives."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ranet_jax import ops
from ranet_jax.errors import UserError
from ranet_jax.inference.explorer.scene import RegionInputs, Scene
from ranet_jax.inference.prediction import RegionMap

_region_map = jax.jit(ops.region_map)
_select = jax.jit(ops.select_representatives, static_argnums=(2, 3))
_collect, _interact = jax.jit(ops.collect), jax.jit(ops.interact)
_interaction_weights = jax.jit(ops.interaction_weights)


class RegionSettings(NamedTuple):
    """The threshold tau of Eq. 4, the number Q of slots, and K, the representatives in each."""

    threshold: float
    num_regions: int
    per_region: int


class Construction(NamedTuple):
    """Regions, with A^l (Eq. 6), W^g and A^g (Eq. 7) of their representatives."""

    regions: RegionMap
    local: Float[np.ndarray, "q k m"]
    weights: Float[np.ndarray, "q k q k"]
    context: Float[Array, "q k m"]

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Root of each pixel's region."""
        return self.regions.labels.reshape(-1)

    @property
    def score(self) -> Float[np.ndarray, " n"]:
        """J of each pixel."""
        return self.regions.score.reshape(-1)


def check_settings(settings: RegionSettings, most: RegionSettings) -> None:
    """Raise `UserError` unless the settings are in range; `most` has the largest Q and K."""
    if not 0 <= settings.threshold <= 1:
        raise UserError(f"The threshold is {settings.threshold}; choose a number from 0 to 1.")
    for name, value, largest in (
        ("regions", settings.num_regions, most.num_regions),
        ("representatives", settings.per_region, most.per_region),
    ):
        if not 1 <= value <= largest:
            raise UserError(f"The number of {name} is {value}; choose one from 1 to {largest}.")


def find_regions(scene: Scene, settings: RegionSettings, most: RegionSettings) -> RegionMap:
    """The regions of a scene, computed from its scores; the network does not run again.

    All arrays of representatives have the sizes of `most`, and places beyond the settings are
    empty, so that other settings need no other compiled program.

    Raises:
      UserError: the scene's regions are not those of the paper's equations.
    """
    inputs = _inputs(scene)
    labels, score = _region_map(
        inputs.boundary, inputs.probabilities, inputs.kernel, jnp.float32(settings.threshold)
    )
    chosen = _select(score, labels, most.num_regions, most.per_region)
    has_slot = jnp.arange(most.num_regions) < settings.num_regions
    has_place = jnp.arange(most.per_region) < settings.per_region
    valid = chosen.valid & has_slot[:, None] & has_place[None, :]
    kept = ops.Representatives(
        jnp.where(has_slot, chosen.roots, -1), jnp.where(valid, chosen.indices, 0), valid
    )
    # Moved to the host, since facts look at one representative after the other.
    labels, score, kept = jax.device_get((labels, score, kept))
    return RegionMap(
        labels.reshape(scene.grid), score.reshape(scene.grid), kept, scene.align_corners
    )


def exchange(scene: Scene, regions: RegionMap) -> Construction:
    """What the representatives of regions gather (Eqs. 6 and 7)."""
    features = _inputs(scene).features
    labels, score = regions.labels.reshape(-1), regions.score.reshape(-1)
    local = _collect(features, score, labels, regions.representatives)
    weights = _interaction_weights(local, score, regions.representatives)
    context = _interact(local, score, regions.representatives)
    return Construction(regions, np.asarray(local, np.float32), np.asarray(weights), context)


def _inputs(scene: Scene) -> RegionInputs:
    if scene.inputs is None:
        raise UserError(
            "The network does not construct regions by the paper's equations; explore one whose"
            " config.model.context is 'ranet' and whose variant is 'paper'."
        )
    return scene.inputs


class Constructions:
    """A cache of the last constructions, so that pointing at pixels does not repeat them."""

    def __init__(self, most: RegionSettings, kept: int = 8):
        self.most = most
        self._find = functools.lru_cache(maxsize=kept)(self._find_anew)
        self._exchange = functools.lru_cache(maxsize=kept)(self._exchange_anew)

    def regions(self, scene: Scene, settings: RegionSettings) -> RegionMap:
        """What `find_regions` returns, from the cache if it is there.

        Raises:
          UserError: as for `find_regions`, or the settings are out of range.
        """
        check_settings(settings, self.most)
        return self._find(scene, settings)

    def construction(self, scene: Scene, settings: RegionSettings) -> Construction:
        """What `exchange` returns for these regions, cached; it raises what `regions` does."""
        check_settings(settings, self.most)
        return self._exchange(scene, settings)

    def _find_anew(self, scene: Scene, settings: RegionSettings) -> RegionMap:
        return find_regions(scene, settings, self.most)

    def _exchange_anew(self, scene: Scene, settings: RegionSettings) -> Construction:
        return exchange(scene, self._find(scene, settings))
