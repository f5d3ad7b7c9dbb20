"""Exact evaluation of coarse and fine segmentation, in memory or of a checkpoint."""

import dataclasses
import functools
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Int64, Integer
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from ranet_jax import ops
from ranet_jax.config import config_to_json
from ranet_jax.errors import UserError
from ranet_jax.evaluation.journal import Journal, Tally, evaluation_key
from ranet_jax.evaluation.metrics import SegmentationScores, check_labels, confusion_matrix
from ranet_jax.evaluation.region_statistics import (
    RegionCounts,
    RegionScores,
    count_batch,
    count_separately,
)
from ranet_jax.evaluation.result import EvaluationResult, percent
from ranet_jax.files import check_json_output, write_json
from ranet_jax.inference import pictures as visualize
from ranet_jax.inference.model import CompiledSizes, Model, load, score_maps
from ranet_jax.inference.probabilities import (
    InferenceSettings,
    ScoreMaps,
    fit_whole,
    predict_probabilities,
)
from ranet_jax.models import Outputs
from ranet_jax.pipeline import examples as pipeline
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.pipeline.normalization import Normalization

OUTPUTS = ("fine", "coarse")
# What the signs of TFDS's expressions for splits become in the names of files.
_READABLE = str.maketrans({"[": "_", "]": "", ":": "to", "%": "pct", "+": "_and_"})
JOURNAL_SECONDS = 30.0
Batch = dict[str, np.ndarray]


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

    Regions are those of one pass over the whole images at their own scale, as of `Model.predict`.

    Args:
      forward: jit-compiled `forward(variables, images, with_regions)`, as `make_forward` gives.
      variables: parameters and batch statistics, NumPy or replicated jax arrays.
      batches: {"image": normalised float32 [B, H, W, 3], "label": [B, h, w], "mask": bool [B]};
        images that `mask` leaves out are padding and are not counted. A batch is split over as
        many of this host's devices as divide it.
      dataset: categories of the labels.
      settings: scales, flips and windows.
      total: number of this host's images, for the progress bar.
      progress: show a progress bar, on the first host.
      journal: file of what is counted so far, written every `JOURNAL_SECONDS`; an evaluation that
        was cut off goes on from there. The batches must come in the same order again.

    Raises:
      UserError: a label is out of range, or there are no images at all.
    """
    start = time.monotonic()
    local_variables = jax.tree.map(_local_copy, variables)
    placed: dict[int, Any] = {}
    size, ignore_label = dataset.num_classes, dataset.ignore_label
    tally = (journal and journal.read()) or Tally.empty(OUTPUTS, size)
    hidden = not progress or jax.process_index() != 0
    with tqdm(
        total=total,
        initial=tally.images["fine"],
        unit="image",
        desc="evaluate",
        leave=None,  # not below the bar of a training
        disable=hidden,
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
            network = forward, placed[mesh.size]
            only = None
            if settings.single_pass:
                seen = fit_whole(on_devices["image"], settings.max_pixels)
                only = forward(network[1], seen, with_regions=settings.regions)
                tally.regions += count_batch(only, batch["label"], batch["mask"], ignore_label)
            elif settings.regions:
                tally.regions += count_separately(
                    *network, on_devices, settings, mesh.size, ignore_label
                )
            matrices = _batch_confusions(*network, on_devices, settings, ignore_label, only)
            num_images = int(batch["mask"].sum())
            for name, matrix in matrices.items():
                tally.confusion[name] += np.asarray(matrix, np.int64)
                tally.images[name] += num_images
            tally.batches += 1
            bar.update(num_images)
            miou = SegmentationScores(tally.confusion["fine"]).miou
            bar.set_postfix_str(f"mIoU {percent(miou)}")
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
    )


def _local_copy(array: Any) -> Any:
    """This host's copy of an array that is the same on all devices of all hosts."""
    return array.addressable_data(0) if isinstance(array, jax.Array) else array


def _local_mesh(batch_size: int) -> Mesh:
    """Mesh of the largest number of this host's devices that divides a batch."""
    devices = jax.local_devices()
    count = next(n for n in range(len(devices), 0, -1) if batch_size % n == 0)
    return Mesh(np.array(devices[:count]), ("data",))


def _batch_confusions(
    forward: Callable[..., Outputs],
    variables: Any,
    batch: dict[str, Array],
    settings: InferenceSettings,
    ignore_label: int,
    only: Outputs | None,
) -> dict[str, Int[Array, "c c"]]:
    """Confusion matrices by output, of `only` where that is the single pass there is to make."""
    if only is not None:
        settings = dataclasses.replace(settings, max_pixels=None)  # the images were made to fit

    def scores(images: Array) -> ScoreMaps:
        maps = score_maps(forward(variables, images) if only is None else only)
        return {name: maps[name] for name in OUTPUTS if name in maps}

    probabilities = predict_probabilities(scores, batch["image"], settings)
    return {
        name: _count(maps, batch["label"], batch["mask"], ignore_label)
        for name, maps in probabilities.items()
    }


@functools.partial(jax.jit, static_argnames="ignore_label")
def _count(
    probabilities: Float[Array, "b H W c"],
    labels: Integer[Array, "b h w"],
    mask: Bool[Array, " b"],
    ignore_label: int,
) -> Int[Array, "c c"]:
    """Confusion matrix at the labels' own resolution."""
    at_labels = ops.resize_bilinear(probabilities, (labels.shape[1], labels.shape[2]))
    predictions = jnp.argmax(at_labels, axis=-1)
    return confusion_matrix(labels, predictions, probabilities.shape[-1], ignore_label, mask)


def sum_over_hosts(counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Sum of non-negative counts over all hosts, exact up to 2**62.

    They travel in two halves, for jax arrays hold 32 bits.
    """
    halves = np.stack([counts >> 31, counts & (2**31 - 1)]).astype(np.int32)
    gathered = np.asarray(multihost_utils.process_allgather(halves), np.int64)
    high, low = gathered.reshape(-1, *halves.shape).sum(axis=0)
    return (high << 31) + low


def evaluate_checkpoint(
    path: str | os.PathLike,
    split: str | None = None,
    output: str | os.PathLike | None = None,
    pictures: int = 0,
    configure: Callable[[ConfigDict], ConfigDict] | None = None,
    progress: bool = True,
) -> EvaluationResult:
    """Score a checkpoint on a split of its data set and write the scores as JSON.

    One that was cut off goes on where it was when it is started again in the same way. Of several
    hosts the first one writes.

    Args:
      path: working directory (its best checkpoint), a checkpoint of it, or an exported model.
      split: of the data set; the config's `data.eval_split` if not given.
      output: JSON file; `evaluation_SPLIT.json` in the model's directory if not given.
      pictures: number of images, from the first on, to draw on a sheet beside the JSON file.
      configure: may change fields of the config, such as those of `config.eval`.
      progress: show a progress bar.

    Raises:
      UserError: no checkpoint, no data set or one with other classes, nothing labelled in the
        split, or the report cannot be written.
    """
    if pictures < 0:
        raise UserError(f"{pictures} pictures cannot be drawn; choose 0 or more.")
    model = load(path, configure)
    split = split or model.config.data.eval_split
    report = Path(output) if output else _model_directory(Path(path)) / _report_name(split)
    check_json_output(report, "scores")
    builder = pipeline.open_dataset(model.config.data)
    _check_classes(path, model.dataset, pipeline.dataset_metadata(builder))
    journal = _journal(model, report, split, builder)
    result = evaluate_batches(
        model.forward,
        model.variables,
        pipeline.evaluation_batches(model.config, builder, split),
        model.dataset,
        model.settings,
        total=pipeline.num_examples(builder, split),
        progress=progress,
        journal=journal,
    )
    if not result.fine.labelled.any():
        journal.remove()
        raise UserError(
            f"No pixel of split {split!r} of {model.dataset.name} has a label to score; name"
            " another split. Where a benchmark withholds its labels, `ranet predict --submission`"
            " writes what its server scores."
        )
    if jax.process_index() != 0:
        return result
    header = {"checkpoint": str(path), "step": model.step, "split": split}
    try:
        write_json(report, header | result.to_json())
        if pictures > 0:
            batches = pipeline.evaluation_batches(model.config, builder, split)
            prediction_sheet(model, batches, pictures).save(report.with_suffix(".png"))
    except OSError as error:
        raise UserError(
            f"{report} or its pictures cannot be written ({error.strerror}); make room or choose"
            f" another output. The scores are:\n{result.table()}"
        ) from error
    journal.remove()
    return result


def _journal(model: Model, report: Path, split: str, builder: Any) -> Journal:
    """The journal of this host's part of an evaluation, beside its report."""
    host = (jax.process_index(), jax.process_count())
    sizes = [(name, info.num_bytes) for name, info in builder.info.splits.items()]
    examples = str(builder.info.full_name), pipeline.num_examples(builder, split), sizes
    key = evaluation_key(model.variables, config_to_json(model.config), split, *examples, *host)
    return Journal(report.with_name(f".{report.stem}.{host[0]}.npz"), key)


def _model_directory(path: Path) -> Path:
    """Directory of a model's reports: of a checkpoint `WORKDIR/checkpoints/STEP`, its WORKDIR."""
    path = path.absolute()
    return path.parent.parent if path.parent.name == "checkpoints" else path


def _report_name(split: str) -> str:
    """File name of a split, which parts of it do not share: `val[:50%]` has `val_to50pct`."""
    readable = split.translate(_READABLE)
    return f"evaluation_{re.sub(r'[^A-Za-z0-9_-]+', '_', readable)}.json"


def _check_classes(
    path: str | os.PathLike, trained: DatasetMetadata, found: DatasetMetadata
) -> None:
    if trained.class_names != found.class_names:
        raise UserError(
            f"{path} was trained on the {trained.num_classes} classes of {trained.name!r}"
            f" ({', '.join(trained.class_names)}), but data set {found.name!r} has"
            f" {found.num_classes} ({', '.join(found.class_names)}); evaluate it on a data set of"
            " its own classes."
        )


def prediction_sheet(model: Model, batches: Iterable[Batch], count: int) -> Image.Image:
    """Sheet of the first `count` images: truth, coarse and fine labels, boundary and regions."""
    normalization = Normalization.from_config(model.config.data)
    examples = (
        (batch["image"][index], batch["label"][index])
        for batch in batches
        for index in np.flatnonzero(batch["mask"])
    )
    rows = []
    for normalized, label in itertools.islice(examples, count):
        image = _pixels(normalized, normalization)
        prediction, dataset = model.predict(image), model.dataset
        rows.append(
            visualize.sheet_row(image, prediction, dataset.palette, label, dataset.ignore_label)
        )
    return visualize.contact_sheet(rows, model.dataset)


def _pixels(normalized: np.ndarray, normalization: Normalization) -> np.ndarray:
    """The uint8 RGB image that was normalised."""
    rgb = normalized[..., ::-1] if normalization.channel_order == "bgr" else normalized
    return np.clip(np.rint(rgb * normalization.std + normalization.mean), 0, 255).astype(np.uint8)
