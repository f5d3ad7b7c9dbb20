"""Facts about a scene's regions, about one pixel and about one representative."""

import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from ranet_jax import ops
from ranet_jax.errors import UserError
from ranet_jax.inference.explorer.construction import Construction, RegionSettings
from ranet_jax.inference.explorer.scene import Scene
from ranet_jax.inference.prediction import MIN_REGION_PIXELS, RegionMap
from ranet_jax.inference.region_pictures import feature_positions, region_caption, region_colors
from ranet_jax.inference.region_purity import region_purity
from ranet_jax.ops import nearest_grid
from ranet_jax.pipeline.metadata import DatasetMetadata

TOP_CLASSES = 5

Facts = dict[str, Any]  # NumPy arrays and JSON values

_pixel_attention = jax.jit(ops.pixel_attention)
_collection_weights = jax.jit(ops.collection_weights)
_distribution_weights = jax.jit(ops.distribution_weights)


def region_facts(scene: Scene, regions: RegionMap, dataset: DatasetMetadata) -> Facts:
    """The regions of a scene: their map, and size, class and colour of those that have a slot.

    A region's class is the most frequent one of its pixels by the fine scores; its purity is that
    class's share. If true labels are known, the caption gives the share of pixels that have the
    most frequent true class of their region.
    """
    labels = regions.labels.reshape(-1)
    sizes = np.bincount(labels, minlength=labels.size)
    classes = scene.fine_scores.argmax(axis=-1).reshape(-1)
    colors = region_colors(regions, dataset.palette)
    listed = []
    for slot, root in enumerate(np.asarray(regions.representatives.roots).tolist()):
        if root >= 0:
            counts = np.bincount(classes[labels == root], minlength=dataset.num_classes)
            listed.append(
                {
                    "slot": slot,
                    "root": root,
                    "size": int(sizes[root]),
                    "class": int(counts.argmax()),
                    "purity": float(counts.max() / counts.sum()),
                    "color": colors.get(root),
                }
            )
    purity = math.nan
    if scene.truth is not None:
        purity = region_purity(
            regions.labels, scene.truth, dataset.ignore_label, regions.align_corners
        )
    return {
        "labels": labels.astype(np.int32),
        "regions": listed,
        "num_regions": int((sizes > 0).sum()),
        "least_size": MIN_REGION_PIXELS,
        "caption": region_caption(regions, purity),
    }


def class_facts(scene: Scene, pixel: int, dataset: DatasetMetadata) -> Facts:
    """Where a feature pixel is, and its likeliest classes by the fine and the coarse scores."""
    check_pixel(scene, pixel)
    row, column = divmod(pixel, scene.grid[1])
    facts: Facts = {"pixel": pixel, "row": row, "column": column}
    facts["fine"] = _likeliest(scene.fine_scores[row, column])
    if scene.coarse_scores is not None:
        size = scene.coarse_scores.shape[:2]
        rows, columns = nearest_grid(scene.grid, size, scene.align_corners)
        facts["coarse"] = _likeliest(scene.coarse_scores[rows[row, 0], columns[0, column]])
    positions = feature_positions(np.array([pixel]), scene.grid, scene.size, scene.align_corners)
    y, x = positions[0].tolist()
    facts["image_position"] = {"x": round(x, 1), "y": round(y, 1)}
    return facts


def _likeliest(probabilities: Float[np.ndarray, " c"]) -> list[Facts]:
    order = np.argsort(-probabilities, kind="stable")[:TOP_CLASSES].tolist()
    return [{"class": index, "probability": float(probabilities[index])} for index in order]


def check_pixel(scene: Scene, pixel: int) -> None:
    """Raise `UserError` unless the feature grid has such a pixel."""
    height, width = scene.grid
    if not 0 <= pixel < height * width:
        raise UserError(
            f"The feature grid has {height} x {width} pixels, numbered from 0 to"
            f" {height * width - 1}; there is no pixel {pixel}."
        )


def attention_facts(
    scene: Scene,
    construction: Construction,
    settings: RegionSettings,
    pixel: int,
    other: int,
    place: int | None = None,
) -> Facts:
    """A pixel's relation to all others (D, E, F, links), its region and its representatives.

    `representative` is the representative in `place` or, if there is none, the one of the largest
    weight. `linking` is (F^g_ij + F^g_ji) / 2, which links two pixels where it exceeds the
    threshold. `segment` leads to the pixel `other`: it has the samples of Eq. 1 and the number of
    the largest sample.

    Raises:
      UserError: the feature grid has no such pixel, or the regions are not those of the paper.
    """
    check_pixel(scene, pixel)
    check_pixel(scene, other)
    inputs, chosen = scene.inputs, construction.regions.representatives
    assert inputs is not None  # otherwise there would be no construction
    rows = _pixel_attention(inputs.boundary, inputs.probabilities, inputs.kernel, pixel)
    samples = ops.segment_samples(inputs.boundary, pixel, other)
    labels, score = construction.labels, construction.score
    root = int(labels[pixel])
    size = int((labels == root).sum())
    slots = np.flatnonzero(np.asarray(chosen.roots) == root).tolist()
    facts: Facts = {
        "boundary": float(inputs.boundary.reshape(-1)[pixel]),
        "D": np.asarray(rows.crossing),
        "E": np.asarray(rows.divergence),
        "F": np.asarray(rows.attention),
        "linking": np.asarray(rows.linking),
        "linked": int((np.asarray(rows.linking) > np.float32(settings.threshold)).sum()),
        "region": {"root": root, "size": size, "share": size / labels.size},
        "J": float(score[pixel]),
        "representatives": [],
        "representative": None,
        "segment": {
            "other": other,
            "positions": samples.positions.astype(np.float64).round(3).tolist(),
            "scores": samples.scores.astype(np.float64).tolist(),
            "largest": int(samples.scores.argmax()),
        },
    }
    if slots:
        slot = slots[0]
        facts["region"]["slot"] = slot
        weights = _distribution_weights(
            inputs.features, score, labels, chosen, construction.context, pixel
        )
        places = _places(scene, construction, slot, np.asarray(weights)[slot])
        best = max(places, key=lambda each: (each["place"] == place, each["weight"]))
        facts["representatives"] = places
        facts["representative"] = representative_facts(scene, construction, slot, best["place"])
    return facts


def _places(
    scene: Scene, construction: Construction, slot: int, weights: Float[np.ndarray, " k"]
) -> list[Facts]:
    chosen = construction.regions.representatives
    return [
        {
            "place": place,
            **_position(scene, pixel),
            "J": float(construction.score[pixel]),
            "weight": float(weights[place]),
        }
        for place, pixel in enumerate(np.asarray(chosen.indices)[slot].tolist())
        if chosen.valid[slot, place]
    ]


def _position(scene: Scene, pixel: int) -> Facts:
    row, column = divmod(pixel, scene.grid[1])
    return {"pixel": pixel, "row": row, "column": column}


def representative_facts(scene: Scene, construction: Construction, slot: int, place: int) -> Facts:
    """What one representative gathers: from its region's pixels (Eq. 6) and other regions (Eq. 7).

    `collected` is W^l over all pixels. `sources` lists the regions that the representative gathers
    from: the weights W^g of a region's representatives, which sum to 1, and the region's share,
    which is the length of what it adds to A^g divided by the sum of these lengths.

    Raises:
      UserError: there is no such representative.
    """
    regions, inputs = construction.regions, scene.inputs
    assert inputs is not None  # otherwise there would be no construction
    chosen = regions.representatives
    indices, valid = np.asarray(chosen.indices), np.asarray(chosen.valid)
    if not (0 <= slot < valid.shape[0] and 0 <= place < valid.shape[1] and valid[slot, place]):
        raise UserError(f"Slot {slot} has no representative {place}; choose one from the list.")
    score, labels = construction.score, construction.labels
    collected = _collection_weights(inputs.features, score, labels, chosen, slot)
    weights = construction.weights[slot, place]
    scored = score[indices][..., None] * construction.local
    lengths = np.linalg.norm(np.einsum("si,sim->sm", weights, scored), axis=-1)
    total = float(lengths.sum()) or 1.0
    others = np.flatnonzero(valid.any(axis=1) & (np.arange(len(valid)) != slot))
    order: Int[np.ndarray, " s"] = others[np.argsort(-lengths[others], kind="stable")]
    return {
        **_position(scene, int(indices[slot, place])),
        "slot": slot,
        "place": place,
        "collected": np.asarray(collected)[place],
        "sources": [
            {
                "slot": other,
                "root": int(chosen.roots[other]),
                "share": float(lengths[other]) / total,
                "representatives": _places(scene, construction, other, weights[other]),
            }
            for other in order.tolist()
        ],
    }
