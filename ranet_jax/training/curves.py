"""Training curves."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ranet_jax.files import replacing
from ranet_jax.training.records import read_records

LOSS_TERMS = ("loss", "fine", "coarse", "boundary", "fine_boundary", "position", "channel")
SCORES = {
    "fine_miou": "fine mIoU",
    "coarse_miou": "coarse mIoU",
    "fine_accuracy": "fine accuracy",
    "region_purity": "region purity",
    "boundary_f": "boundary F",
}
REGION_SCORES = ("region_purity", "boundary_f")  # dashed


def draw_curves(metrics_path: str | os.PathLike, picture_path: str | os.PathLike) -> None:
    """Draw losses (running means, in nats a pixel) and scores over steps from `metrics.jsonl`.

    Raises:
      UserError: the file is missing or holds other lines than records.
      OSError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    records = read_records(metrics_path)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in LOSS_TERMS:
        steps, values = _series(records, name)
        if len(steps):
            window = max(1, len(values) // 50)
            label = name if name == "loss" else f"{name} (unweighted)"
            losses.plot(steps, _running_mean(values, window), label=label, linewidth=1.2)
    for name, label in SCORES.items():
        steps, values = _series(records, name)
        if len(steps):
            style = "--" if name in REGION_SCORES else "-"
            scores.plot(steps, 100 * values, style, label=label, marker=".", linewidth=1.2)
    losses.set(title="training loss", xlabel="step", ylabel="nats a pixel", yscale="log")
    scores.set(title="evaluation", xlabel="step", ylabel="percent", ylim=(0, 102))
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with replacing(picture_path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def _series(
    records: Sequence[Mapping[str, int | float]], name: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Steps and values of the records that have a value of this name."""
    points = [(record["step"], record[name]) for record in records if name in record]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values


def _running_mean(values: Float[np.ndarray, " n"], window: int) -> Float[np.ndarray, " n"]:
    """Mean of each value and up to `window - 1` before it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
