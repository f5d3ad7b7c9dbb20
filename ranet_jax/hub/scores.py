"""Scores of the weights of one step, from the evaluations of a run."""

import dataclasses
import math
import re
from typing import Any

from ranet_jax.checkpoints.workdirs import read_description
from ranet_jax.errors import UserError
from ranet_jax.files import paths, read_json
from ranet_jax.files.paths import Path
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.training.records import FILE, read_records

# The names of the reports of `ranet evaluate`, unless they are given another name.
REPORT = re.compile(r"evaluation_.*\.json")
# The names in training's records of the scores of a report's segmentations.
RECORDED = {
    ("fine", "miou"): "fine_miou",
    ("fine", "pixel_accuracy"): "fine_accuracy",
    ("coarse", "miou"): "coarse_miou",
}
MEASURES = ("miou", "pixel_accuracy", "mean_accuracy")


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of one evaluation, as fractions of 1.

    Attributes:
      dataset: name of the data set.
      split: split of the data set.
      seen: how the network saw the images, in words.
      values: scores by segmentation ("fine", "coarse") and measure of `MEASURES`.
      class_iou: IoU of the fine segmentation by class; empty if it is not recorded.
      num_images: number of images; None if it is not recorded.
      picture: the sheet of images that was drawn, if there is one.
    """

    dataset: str
    split: str
    seen: str
    values: dict[tuple[str, str], float]
    class_iou: dict[str, float] = dataclasses.field(default_factory=dict)
    num_images: int | None = None
    picture: Path | None = None


def find_scores(directory: Path, step: int | None) -> list[Score]:
    """Scores of the weights of a step: from reports of `ranet evaluate`, then from training.

    Training's own evaluation counts only if no report has the same data set and split.

    Args:
      directory: working directory of the run, or exported model.
      step: step of the weights; None for those of an exported model.

    Raises:
      UserError: a report or the record of training cannot be read.
    """
    names = sorted(name for name in paths.list_names(directory) if REPORT.fullmatch(name))
    reports = ((name, read_json(directory / name)) for name in names)
    scores = [
        _of_report(fields, directory / name)
        for name, fields in reports
        if not isinstance(fields, dict) or fields.get("step", -1) == step
    ]
    if step is not None and paths.is_file(directory / FILE):
        reported = {(score.dataset, score.split) for score in scores}
        recorded = _of_training(directory, step)
        scores += [score for score in recorded if (score.dataset, score.split) not in reported]
    return scores


def _of_report(fields: Any, path: Path) -> Score:
    try:
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields["settings"].items()
        }
        outputs = {name: fields[name] for name in ("fine", "coarse") if name in fields}
        values = {
            (name, measure): _fraction(output[measure])
            for name, output in outputs.items()
            for measure in MEASURES
            if output[measure] is not None
        }
        classes = fields["fine"]["classes"].items()
        picture = path.with_suffix(".png") if fields.get("pictures") else None
        return Score(
            dataset=str(fields["dataset"]),
            split=str(fields["split"]),
            seen=describe_settings(InferenceSettings(**settings)),
            values=values,
            class_iou={n: _fraction(c["iou"]) for n, c in classes if c["iou"] is not None},
            num_images=int(fields["num_images"]),
            picture=picture if picture is not None and paths.is_file(picture) else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a report of `ranet evaluate` ({error!r}); write it again, or move it"
            " away."
        ) from error


def _fraction(value: Any) -> float:
    if not isinstance(value, float | int) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is not a score")
    return float(value)


def _of_training(directory: Path, step: int) -> list[Score]:
    """The evaluation of a step during training, as a list of one score; empty without one."""
    config, dataset = read_description(directory)
    records = [r for r in read_records(directory / FILE) if r["step"] == step and "fine_miou" in r]
    if not records:
        return []
    values = {key: float(records[-1].get(name, math.nan)) for key, name in RECORDED.items()}
    return [
        Score(
            dataset=dataset.name,
            split=config.data.eval_split,
            seen=describe_settings(InferenceSettings.from_config(config)),
            values={key: value for key, value in values.items() if not math.isnan(value)},
        )
    ]


def describe_settings(settings: InferenceSettings) -> str:
    """How the network sees an image, in words that can follow "seen"."""
    height, width = settings.crop_size
    is_whole = settings.mode == "whole"
    parts = ["as a whole" if is_whole else f"in windows of {height} x {width}"]
    if settings.scales != (1.0,):
        parts.append(f"scaled by {', '.join(f'{scale:g}' for scale in settings.scales)}")
    if settings.flip:
        parts.append("also mirrored")
    return ", ".join(parts)
