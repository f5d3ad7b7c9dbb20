"""Exact scores of a network on batches: coarse and fine segmentation, and regions."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Int64, Integer

from ranet_jax import ops
from ranet_jax.display.progress import track
from ranet_jax.errors import UserError
from ranet_jax.evaluation.journal import Journal, Tally
from ranet_jax.evaluation.metrics import SegmentationScores, confusion_matrix
from ranet_jax.evaluation.region_statistics import (
    RegionCounts,
    RegionScores,
    count_passes,
)
from ranet_jax.evaluation.result import EvaluationResult, Sample, percent
from ranet_jax.inference.forward import CompiledSizes, ScoreMaps
from ranet_jax.inference.segmentation import segment
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import Outputs
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.labels import check_labels
from ranet_jax.pipeline.metadata import DatasetMetadata

OUTPUTS = ("fine", "coarse")
JOURNAL_SECONDS = 30.0
SAMPLES = 2
SAMPLE_SIDE = 320  # largest length of their longer side, in pixels


def evaluate_batches(
    forward: Callable[..., Outputs],
    variables: Any,
    batches: Iterable[Batch],
    dataset: DatasetMetadata,
    settings: InferenceSettings,
    total: int | None = None,
    progress: bool = True,
    journal: Journal | None = None,
) -> EvaluationResult:
    """Score a network on this host's batches, and sum the counts over all hosts.

    The first `SAMPLES` images of this host are kept as samples, unless the journal has counted them
    already. Regions are those of one pass over the whole images at their own scale, as in
    `Model.predict`.

    Args:
      forward: jit-compiled `forward(variables, images, with_regions)`, as from `make_forward`.
      variables: parameters and batch statistics, NumPy or replicated jax arrays.
      batches: {"image": normalised float32 [B, H, W, 3], "label": [B, h, w], "mask": bool [B]};
        images that `mask` leaves out are padding and are not counted. A batch is split over as
        many of this host's devices as divide it.
      dataset: categories of the labels.
      settings: scales, flips and windows.
      total: number of this host's images, for the progress bar.
      progress: show a progress bar, on the first host.
      journal: file of the counts so far, written every `JOURNAL_SECONDS`; an interrupted evaluation
        resumes from there. The batches must come in the same order again.

    Raises:
      UserError: a label is out of range, or there are no images at all.
    """
    start = time.monotonic()
    local_variables = jax.tree.map(_local_copy, variables)
    placed: dict[int, Any] = {}
    size, ignore_label = dataset.num_classes, dataset.ignore_label
    empty = Tally.empty(OUTPUTS, size)
    tally = (journal and journal.read(empty)) or empty
    samples: list[Sample] = []
    hidden = not progress or jax.process_index() != 0
    with track(
        total=total,
        initial=tally.images["fine"],
        unit="image",
        desc="evaluate",
        leave=None,  # do not keep the bar when it is below that of a training
        hidden=hidden,
    ) as bar:
        written = time.monotonic()
        compiled = CompiledSizes(len(settings.scales) + (not settings.single_pass))
        for batch in itertools.islice(batches, tally.batches, None):
            check_labels(batch["label"], size, ignore_label)
            compiled.note(batch["image"].shape + batch["label"].shape)
            mesh = _local_mesh(len(batch["image"]))
            if mesh.size not in placed:
                everywhere = NamedSharding(mesh, PartitionSpec())
                placed[mesh.size] = jax.device_put(local_variables, everywhere)
            on_devices = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
            probabilities, passes = segment(
                *(forward, placed[mesh.size], on_devices["image"], settings),
                names=OUTPUTS,
                with_regions=settings.regions,
            )
            tally.regions += count_passes(
                passes, batch["label"], batch["mask"], ignore_label, settings.align_corners
            )
            matrices = _confusions(probabilities, on_devices, ignore_label, settings.align_corners)
            if tally.batches == 0:
                samples = _samples(batch, probabilities["fine"])
            num_images = int(batch["mask"].sum())
            for name, matrix in matrices.items():
                tally.confusion[name] += np.asarray(matrix, np.int64)
                tally.images[name] += num_images
            tally.batches += 1
            miou = SegmentationScores(tally.confusion["fine"]).miou
            bar.set_postfix_str(f"mIoU {percent(miou)}")
            bar.update(num_images)
            if journal is not None and time.monotonic() - written > JOURNAL_SECONDS:
                written = time.monotonic()
                journal.write(dataclasses.replace(tally, seconds=tally.seconds + written - start))

    counts = [np.array([tally.images[name] for name in OUTPUTS]), tally.regions.to_vector()]
    counts += [tally.confusion[name].ravel() for name in OUTPUTS]
    summed = sum_over_hosts(np.concatenate(counts))
    ends = np.cumsum([len(part) for part in counts])
    (fine_images, coarse_images), region_vector, fine, coarse = np.split(summed, ends[:-1])
    regions = RegionCounts.from_vector(region_vector)
    if fine_images == 0:
        raise UserError(f"There are no images of {dataset.name} to evaluate; name another split.")
    return EvaluationResult(
        dataset=dataset,
        settings=settings,
        num_images=int(fine_images),
        seconds=tally.seconds + time.monotonic() - start,
        fine=SegmentationScores(fine.reshape(size, size)),
        coarse=SegmentationScores(coarse.reshape(size, size)) if coarse_images else None,
        regions=RegionScores(regions) if regions.images else None,
        samples=tuple(samples),
    )


def _samples(batch: Batch, probabilities: Float[Array, "b H W c"]) -> list[Sample]:
    """The first images of a batch, each as every n-th pixel."""
    samples = []
    for index in np.flatnonzero(batch["mask"])[:SAMPLES].tolist():
        # A copy, not a view of the batch; only red, green and blue, as there may be more channels.
        image = np.array(_thinned(batch["image"][index])[..., :3], np.float32)
        truth = _thinned(batch["label"][index]).astype(np.uint8)
        fine = np.asarray(jnp.argmax(_thinned(probabilities[index]), axis=-1)).astype(np.uint8)
        samples.append(Sample(image, truth, fine))
    return samples


def _thinned(pixels: Any) -> Any:
    """Every n-th row and column of an array [H, W, ...], at most `SAMPLE_SIDE` of each."""
    step = -(-max(pixels.shape[:2]) // SAMPLE_SIDE)
    return pixels[::step, ::step]


def _local_copy(array: Any) -> Any:
    """This host's copy of an array that is the same on all devices of all hosts."""
    return array.addressable_data(0) if isinstance(array, jax.Array) else array


def _local_mesh(batch_size: int) -> Mesh:
    """Mesh of the largest number of this host's devices that divides a batch."""
    devices = jax.local_devices()
    count = next(n for n in range(len(devices), 0, -1) if batch_size % n == 0)
    return Mesh(np.array(devices[:count]), ("data",))


def _confusions(
    probabilities: ScoreMaps, batch: dict[str, Array], ignore_label: int, align_corners: bool
) -> dict[str, Int[Array, "c c"]]:
    """Confusion matrices by output."""
    return {
        name: _count(
            probabilities[name], batch["label"], batch["mask"], ignore_label, align_corners
        )
        for name in OUTPUTS
        if name in probabilities
    }


@functools.partial(jax.jit, static_argnames=("ignore_label", "align_corners"))
def _count(
    probabilities: Float[Array, "b H W c"],
    labels: Integer[Array, "b h w"],
    mask: Bool[Array, " b"],
    ignore_label: int,
    align_corners: bool,
) -> Int[Array, "c c"]:
    """Confusion matrix at the labels' own resolution."""
    shape = (labels.shape[1], labels.shape[2])
    at_labels = ops.resize_bilinear(probabilities, shape, align_corners)
    predictions = jnp.argmax(at_labels, axis=-1)
    return confusion_matrix(labels, predictions, probabilities.shape[-1], ignore_label, mask)


def sum_over_hosts(counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Sum of non-negative counts over all hosts, exact up to 2**62.

    The counts are exchanged as two halves, because jax arrays hold 32 bits.
    """
    halves = np.stack([counts >> 31, counts & (2**31 - 1)]).astype(np.int32)
    gathered = np.asarray(multihost_utils.process_allgather(halves), np.int64)
    high, low = gathered.reshape(-1, *halves.shape).sum(axis=0)
    return (high << 31) + low
