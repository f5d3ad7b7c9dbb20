"""A sheet of the samples of an evaluation."""

from PIL import Image

from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.inference.pictures import Panel, contact_sheet, label_panel
from ranet_jax.pipeline.normalization import Normalization

PICTURE_WIDTH = 240


def sample_sheet(result: EvaluationResult, normalization: Normalization) -> Image.Image | None:
    """Photograph, truth and fine labels of each sample, above a legend; None without samples.

    `normalization` is the one applied to the images of the samples.
    """
    rows = [
        {
            "image": Panel(normalization.undo(sample.image)),
            "truth": label_panel(sample.truth, result.dataset.palette),
            "fine": label_panel(sample.fine, result.dataset.palette),
        }
        for sample in result.samples
    ]
    return contact_sheet(rows, result.dataset, PICTURE_WIDTH) if rows else None
