"""Results of an evaluation: scores of segmentations and of regions, as JSON and as tables."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from ranet_jax.display.tables import table
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.region_statistics import RegionScores
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.pipeline.metadata import DatasetMetadata


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image of an evaluation, thinned to a small size, and its labels.

    `image` is normalised, as the network sees it.
    """

    image: Float32[np.ndarray, "h w 3"]
    truth: UInt8[np.ndarray, "_ _"]
    fine: UInt8[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Scores of the fine and, if the network has them, the coarse segmentation and the regions.

    `samples` are its first images.
    """

    dataset: DatasetMetadata
    settings: InferenceSettings
    num_images: int
    seconds: float
    fine: SegmentationScores
    coarse: SegmentationScores | None = None
    regions: RegionScores | None = None
    samples: tuple[Sample, ...] = ()

    @property
    def outputs(self) -> dict[str, SegmentationScores]:
        """Scores by output: "fine", and "coarse" if the network has it."""
        scores = {"fine": self.fine, "coarse": self.coarse}
        return {name: value for name, value in scores.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary: scores are fractions of 1, None where there was nothing to score.

        Rows of "confusion" are the true classes, columns the predicted ones, in pixels.
        """
        fields = {
            "dataset": self.dataset.name,
            "num_images": self.num_images,
            "seconds": round(self.seconds, 3),
            "settings": dataclasses.asdict(self.settings),
            **{name: self._scores_to_json(scores) for name, scores in self.outputs.items()},
        }
        return fields if self.regions is None else fields | {"regions": self.regions.to_json()}

    def _scores_to_json(self, scores: SegmentationScores) -> dict[str, Any]:
        names = self.dataset.class_names
        columns = (scores.class_iou, scores.labelled, scores.predicted, scores.correct)
        return {
            "miou": _number_or_none(scores.miou),
            "pixel_accuracy": _number_or_none(scores.pixel_accuracy),
            "mean_accuracy": _number_or_none(scores.mean_accuracy),
            "classes": {
                name: {
                    "iou": _number_or_none(iou),
                    "labelled_pixels": int(labelled),
                    "predicted_pixels": int(predicted),
                    "correct_pixels": int(correct),
                }
                for name, iou, labelled, predicted, correct in zip(names, *columns, strict=True)
            },
            "confusion": scores.confusion.tolist(),
        }

    def table(self) -> str:
        """Markdown: IoU in percent of each class, then the means; "-" where nothing was scored.

        A table of the regions follows, if there are any, and a warning if they are of no use.
        """
        scores, pixels = self.outputs.values(), self.fine.labelled
        rows = [
            [name, *(percent(score.class_iou[index]) for score in scores), f"{pixels[index]:,}"]
            for index, name in enumerate(self.dataset.class_names)
        ]
        rows += [
            ["**mean IoU**", *(percent(score.miou) for score in scores), f"{pixels.sum():,}"],
            ["**pixel accuracy**", *(percent(score.pixel_accuracy) for score in scores), ""],
            ["**mean accuracy**", *(percent(score.mean_accuracy) for score in scores), ""],
        ]
        header = ["class", *(f"{name} IoU" for name in self.outputs), "pixels"]
        classes = table(header, rows)
        return classes if self.regions is None else f"{classes}\n\n{self.regions.table()}"


def _number_or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def percent(value: float) -> str:
    """A fraction of 1 in percent with two digits; "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
