"""Training curves."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from ranet_jax.files import replacing
from ranet_jax.training.records import read_records

LOSS_TERMS = (
    "loss",
    "fine",
    "coarse",
    "boundary",
    "fine_boundary",
    "position",
    "channel",
    "lovasz",
)
SCORES = {
    "fine_miou": "fine mIoU",
    "coarse_miou": "coarse mIoU",
    "fine_accuracy": "fine accuracy",
    "region_purity": "region purity",
    "boundary_f": "boundary F",
}
REGION_SCORES = ("region_purity", "boundary_f")  # dashed


MOST_POINTS = 600  # per line, about as many as its width in pixels can show
MOST_MARKERS = 40


def draw_curves(metrics_path: str | os.PathLike, picture_path: str | os.PathLike) -> None:
    """Draw losses (in nats a pixel) and scores over steps from `metrics.jsonl`.

    Losses are running means over a fiftieth of the steps, with the losses of single steps drawn
    faintly behind them; a term that is always 0 is left out. Lines with many points are thinned,
    and lines with few points have a marker at each.

    Raises:
      UserError: the file is missing or holds lines that are not records.
      OSError: the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    records = read_records(metrics_path)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in LOSS_TERMS:
        steps, values = _series(records, name)
        if (values > 0).any():
            window = max(1, len(values) // 50)
            label = name if name == "loss" else f"{name} (unweighted)"
            ends = _bin_ends(len(steps))
            means = _running_mean(values, window)[ends]
            width = 1.8 if name == "loss" else 1.1
            marker = "." if len(steps) <= MOST_MARKERS else ""
            (line,) = losses.plot(
                steps[ends], means, label=label, linewidth=width, marker=marker, zorder=3
            )
            if window > 1:
                raw = envelope(steps, values)
                losses.plot(*raw, color=line.get_color(), alpha=0.2, linewidth=0.6)
    for name, label in SCORES.items():
        steps, values = _series(records, name)
        if len(steps):
            style = "--" if name in REGION_SCORES else "-"
            marker = "." if len(steps) <= MOST_MARKERS else ""
            scores.plot(steps, 100 * values, style, label=label, marker=marker, linewidth=1.2)
    losses.set(
        title="training loss", xlabel="step", ylabel="loss (cross-entropy in nats per pixel)"
    )
    losses.set_yscale("log", nonpositive="mask")
    losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    losses.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    losses.yaxis.set_minor_formatter(NullFormatter())
    scores.set(title="evaluation", xlabel="step", ylabel="percent", ylim=(0, 102))
    last = max((record["step"] for record in records), default=1)
    for axes in (losses, scores):
        axes.set_xlim(0, 1.02 * max(last, 1))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        axes.grid(alpha=0.3)
        if axes.lines:
            columns = 2 if axes is losses else 3
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, fontsize=8)
    with replacing(picture_path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def _bin_ends(count: int) -> Int[np.ndarray, " m"]:
    """The last index of each of up to `MOST_POINTS` bins of nearly the same size."""
    bins = min(count, MOST_POINTS)
    return np.arange(1, bins + 1) * count // bins - 1


def envelope(
    steps: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """At most `MOST_POINTS` steps, each twice, with the least and greatest value of their bins."""
    ends = _bin_ends(len(steps))
    starts = np.concatenate([[0], ends[:-1] + 1])
    bounds = [reduce.reduceat(values, starts) for reduce in (np.minimum, np.maximum)]
    return np.repeat(steps[ends], 2), np.stack(bounds, axis=-1).ravel()


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
