import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ranet_jax.errors import UserError
from ranet_jax.training.curves import draw_curves

pytestmark = pytest.mark.slow


def figures_drawn(patch):
    """A list that receives the figures written from now on."""
    write, drawn = Figure.savefig, []
    patch.setattr(Figure, "savefig", lambda f, *a, **k: (write(f, *a, **k), drawn.append(f)))
    return drawn


def test_curves_draw_a_run_that_is_still_writing(tmp_path):
    records = [
        {"step": step, "loss": 3 / step, "fine": 2 / step, "coarse": 1 / step, "learning_rate": 0.1}
        for step in range(1, 21)
    ]
    records.insert(10, {"step": 10, "fine_miou": 0.3, "fine_accuracy": 0.5, "coarse_miou": 0.2})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 21, "lo')
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100


def test_curves_show_scores_and_regions_in_percent(tmp_path, monkeypatch):
    records = [
        {"step": step, "fine_miou": 0.1 * step, "region_purity": 0.9, "slot_share": 0.5}
        for step in (1, 2, 3)
    ]
    records[1]["boundary_f"] = 0.25  # there was nothing to score at the other steps
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    drawn = figures_drawn(monkeypatch)
    draw_curves(path, tmp_path / "curves.png")
    lines = {line.get_label(): line for line in drawn[0].axes[1].lines}
    assert set(lines) == {"fine mIoU", "region purity", "boundary F"}
    np.testing.assert_allclose(lines["region purity"].get_xydata(), [[1, 90], [2, 90], [3, 90]])
    np.testing.assert_allclose(lines["boundary F"].get_xydata(), [[2, 25]])
    assert [lines[name].get_linestyle() for name in lines] == ["-", "--", "--"]


@pytest.mark.parametrize("steps", [1, 10, 60, 20_000])
def test_lines_are_thinned_and_smoothed_at_any_length(steps, tmp_path, monkeypatch):
    """The mean is over the last fiftieth, and the faint line behind it reaches every extreme."""
    losses = np.random.default_rng(0).uniform(1, 2, steps)
    losses[steps // 2] = 9
    lines = [json.dumps({"step": n, "loss": x, "fine": 0.0}) for n, x in enumerate(losses, 1)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines) + "\n")
    drawn = figures_drawn(monkeypatch)
    draw_curves(path, tmp_path / "curves.png")
    (figure,) = drawn
    mean, *raw = figure.axes[0].lines  # a term that is always 0 has no line
    window = max(1, steps // 50)
    xs, ys = mean.get_data()
    assert len(xs) == min(steps, 600)
    assert xs[-1] == steps
    for x, y in zip(xs[::7], ys[::7], strict=True):
        assert y == pytest.approx(losses[max(0, int(x) - window) : int(x)].mean())
    assert len(raw) == (window > 1)
    for line in raw:
        assert len(line.get_xdata()) <= 1200
        assert line.get_ydata().max() == 9
        assert line.get_ydata().min() == losses.min()
        assert line.get_alpha() < 0.5


def test_steps_are_whole_and_written_with_commas(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 100000, "loss": 0.3}\n')
    with pytest.MonkeyPatch.context() as patch:
        drawn = figures_drawn(patch)
        draw_curves(path, tmp_path / "curves.png")
    labels = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert labels[:6] == ["0", "20,000", "40,000", "60,000", "80,000", "100,000"]


def test_curves_without_a_run_are_refused(tmp_path):
    with pytest.raises(UserError, match="missing"):
        draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    (tmp_path / "metrics.jsonl").write_text("step 1\n")
    with pytest.raises(UserError, match="JSON"):
        draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
