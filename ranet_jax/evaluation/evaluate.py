"""Evaluation of a checkpoint on a data set: its report, and pictures next to it."""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ranet_jax.checkpoints import fingerprint, workdir_of
from ranet_jax.config import config_to_json
from ranet_jax.errors import UserError, check_counts
from ranet_jax.evaluation.confusion_picture import draw_confusion
from ranet_jax.evaluation.journal import Journal
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.evaluation.scored import find_scored
from ranet_jax.evaluation.scoring import evaluate_batches
from ranet_jax.files import check_json_output, reason, replacing, write_json
from ranet_jax.files.paths import Path, absolute, as_path
from ranet_jax.inference.model import Model, load
from ranet_jax.inference.pictures import check_alpha, contact_sheet, sheet_row
from ranet_jax.inference.region_purity import region_purity
from ranet_jax.pipeline import examples
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.metadata import DatasetMetadata

# Replacements, in file names, for the special characters of TFDS split expressions.
_READABLE = str.maketrans({"[": "_", "]": "", ":": "to", "%": "pct", "+": "_and_"})


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation, the contents of its JSON file, and the files by what they contain.

    `report` and `files` are empty on all hosts except the first, the only one that writes.
    """

    result: EvaluationResult
    report: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: dict[str, Path] = dataclasses.field(default_factory=dict)


def evaluate_checkpoint(
    path: str | os.PathLike,
    split: str | None = None,
    output: str | os.PathLike | None = None,
    pictures: int = 0,
    alpha: float = 1.0,
    configure: Callable[[ConfigDict], ConfigDict] | None = None,
    progress: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score a checkpoint on a split of its data set; write the scores as JSON, and pictures.

    Next to the report `NAME.json` are `NAME_confusion.png`, the confusion matrix of the fine
    segmentation, and, if asked for, `NAME.png`, the sheet of images.

    An interrupted evaluation resumes where it was when it is started again in the same way. With
    several hosts, the first one writes.

    Args:
      path: working directory (its best checkpoint), a checkpoint of it, or an exported model.
      split: split of the data set; the config's `data.eval_split` if not given.
      output: JSON file; `evaluation_SPLIT.json` in the model's directory if not given.
      pictures: number of images, from the first on, to draw on a sheet beside the JSON file.
      alpha: opacity of the labels over the images of the sheet, from 0 to 1.
      configure: returns the config with changed fields, such as those of `config.eval`.
      progress: show a progress bar.
      tell: called on the first host, before scoring, with a sentence on what is scored.

    Raises:
      UserError: the checkpoint or the data set is missing, the data set has other classes, the
        split has no labels, `pictures` is more than 32,768, or the report cannot be written.
    """
    if pictures != 0:
        check_counts({"number of pictures": pictures})
    check_alpha(alpha)
    place = absolute(as_path(path))
    model = load(place, configure)
    split = split or model.config.data.eval_split
    builder = examples.open_dataset(model.config.data)
    found, total = examples.dataset_metadata(builder), examples.num_examples(builder, split)
    _check_classes(path, model.dataset, found)
    report = as_path(output) if output else workdir_of(place) / _report_name(split)
    check_json_output(report, "scores")
    journal, scored = _journal(model, report, split, builder, total), find_scored(place, model)
    first_host = jax.process_index() == 0
    if tell is not None and first_host:
        tell(f"Scoring {scored} on split {split} of {model.dataset.name}: {total} images.")
    result = evaluate_batches(
        model.forward,
        model.variables,
        examples.evaluation_batches(model.config, builder, split),
        model.dataset,
        model.settings,
        total=total,
        progress=progress,
        journal=journal,
    )
    if not result.fine.labelled.any():
        journal.remove()
        raise UserError(
            f"No pixel of split {split!r} of {model.dataset.name} has a label to score; name"
            " another split, or write a submission where a benchmark withholds its labels."
        )
    if not first_host:
        return Evaluation(result)
    files = {"report": report, "confusion matrix": report.with_name(f"{report.stem}_confusion.png")}
    header = {"checkpoint": str(path), **scored.to_json(), "split": split, "pictures": pictures}
    fields = header | result.to_json()
    try:
        write_json(report, fields)
        draw_confusion(result, files["confusion matrix"])
        if pictures > 0:
            files["pictures"] = report.with_suffix(".png")
            batches = examples.evaluation_batches(model.config, builder, split)
            sheet = prediction_sheet(model, batches, pictures, alpha)
            with replacing(files["pictures"]) as partial:
                sheet.save(partial, format="PNG")
    except OSError as error:
        raise UserError(
            f"{report} or its pictures cannot be written ({reason(error)}); make room or choose"
            f" another output. The scores are:\n{result.table()}"
        ) from error
    journal.remove()
    return Evaluation(result, fields, files)


def _journal(model: Model, report: Path, split: str, builder: Any, total: int) -> Journal:
    """The journal of this host's part of an evaluation, beside its report."""
    host = (jax.process_index(), jax.process_count())
    sizes = [(name, info.num_bytes) for name, info in builder.info.splits.items()]
    data = str(builder.info.full_name), total, sizes
    key = fingerprint(model.variables, config_to_json(model.config), split, *data, *host)
    return Journal(report.with_name(f".{report.stem}.{host[0]}.npz"), key)


def _report_name(split: str) -> str:
    """File name for a split; parts of it get other names: `val[:50%]` gives `val_to50pct`."""
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


def prediction_sheet(
    model: Model, batches: Iterable[Batch], count: int, alpha: float = 1.0
) -> Image.Image:
    """Sheet of the first `count` images: truth, coarse and fine labels, boundary and regions."""
    labelled = (
        (batch["image"][index], batch["label"][index])
        for batch in batches
        for index in np.flatnonzero(batch["mask"])
    )
    rows = []
    for normalized, truth in itertools.islice(labelled, count):
        image = model.normalization.undo(normalized)
        prediction, dataset = model.predict(image), model.dataset
        purity, regions = math.nan, prediction.regions
        if regions is not None:
            purity = region_purity(
                regions.labels, truth, dataset.ignore_label, regions.align_corners
            )
        rows.append(sheet_row(image, prediction, dataset.palette, truth, purity, alpha))
    return contact_sheet(rows, model.dataset)
