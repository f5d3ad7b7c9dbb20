"""A sheet of the samples of an evaluation."""

import numpy as np
from PIL import Image

from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.inference.pictures import Panel, contact_sheet, label_panel

PICTURE_WIDTH = 240


def sample_sheet(result: EvaluationResult) -> Image.Image | None:
    """Brightness, truth and fine labels of each sample, above a legend; None without samples."""
    rows = [
        {
            "image": Panel(np.repeat(sample.brightness[..., None], 3, axis=-1)),
            "truth": label_panel(sample.truth, result.dataset.palette),
            "fine": label_panel(sample.fine, result.dataset.palette),
        }
        for sample in result.samples
    ]
    return contact_sheet(rows, result.dataset, PICTURE_WIDTH) if rows else None
