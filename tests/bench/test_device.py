"""`ranet bench device`: schedules against the dense equations, timings, a training, on CPUs."""

import json

import numpy as np
import pytest

from helpers.images import png
from ranet_jax.bench import device
from ranet_jax.cli import main
from ranet_jax.ops import dense
from ranet_jax.pipeline.arrays import write_arrays
from ranet_jax.pipeline.metadata import DatasetMetadata

pytestmark = pytest.mark.slow

SOURCE = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.crop_size = (33, 33)
    config.model.update(backbone="resnet18", width=4, stages=1, channels=8, num_regions=4)
    config.model.update(per_region=2)
    config.train.update(steps=2, batch_size=8, log_every=1, eval_every=2, checkpoint_every=2)
    config.eval.batch_size = 2
    return config
"""


@pytest.fixture
def files(tmp_path):
    """A config, and a packed data set of two classes."""
    (tmp_path / "tiny.py").write_text(SOURCE)
    rng = np.random.default_rng(0)

    def example():
        label = rng.integers(0, 2, (33, 33)).astype(np.uint8)
        return png(np.repeat(label[..., None] * 200, 3, axis=2)), png(label)

    metadata = DatasetMetadata("toy", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)))
    splits = {"train": [example() for _ in range(8)], "val": [example() for _ in range(2)]}
    write_arrays(tmp_path / "toy.npz", metadata, splits)
    return tmp_path


@pytest.mark.long
def test_the_command_checks_times_and_trains(files, monkeypatch, capsys):
    monkeypatch.setattr(device, "deeplabv3_step", lambda classes: lambda batch: 0.0)
    config = str(files / "tiny.py")
    arguments = ["--config", config, "--num-classes", "3", "--size", "6", "5", "--repeats", "2"]
    arguments += ["--arrays", str(files / "toy.npz"), "--train-config", config]
    arguments += ["--workdir", str(files / "run"), "--output", str(files / "check.json")]
    assert main(["bench", "device", *arguments]) == 0
    printed = capsys.readouterr().out
    results = json.loads((files / "check.json").read_text())
    assert [each["schedule"] for each in results["agreements"]] == ["streaming", "planes"]
    assert all(each["passes"] for each in results["agreements"])
    assert [each["name"] for each in results["timings"]] == [
        "Eqs. 1-5, forward",
        "Eqs. 1-5, forward + backward",
        "Eqs. 6-8, forward + backward",
        "training step, context=none",
        "training step, context=ranet",
        "training step, PyTorch's DeepLabV3-ResNet101",
    ]
    for each in results["timings"]:
        assert each["images_per_second"] == pytest.approx(8 / np.median(each["seconds"]))
    last = json.loads((files / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert results["fine_miou"] == pytest.approx(last["fine_miou"])
    assert f"{100 * results['fine_miou']:.2f} %" in printed
    assert "Eqs. 1-5, planes against dense" in printed


def test_the_maps_that_are_compared_have_regions_that_link_some_pixels():
    boundary, probabilities, kernel = device.SCENES["cells"](device.CHECKED_SIZE, 19)
    labels, _ = dense.region_map(boundary, probabilities, kernel, 0.8)
    found, counts = np.unique(labels, return_counts=True)
    assert len(found) >= 6
    assert counts.max() > 20


@pytest.mark.long
def test_a_schedule_that_differs_ends_in_an_error(files, monkeypatch, capsys):
    """A planes schedule whose scores are a thousandth too large."""
    paths = device.construct

    def wrong(path, *maps):
        labels, score = paths(path, *maps)
        return labels, score * (1.001 if path == "planes" else 1.0)

    monkeypatch.setattr(device, "construct", wrong)
    monkeypatch.setattr(device, "time_device", lambda *arguments: [])
    assert main(["bench", "device", "--config", str(files / "tiny.py")]) == 1
    shown = capsys.readouterr()
    assert "DIFFERENT" in shown.out
    assert "The regions of planes differ from the dense equations" in shown.err


def test_arrays_need_a_config_and_a_place(files, capsys):
    command = ["bench", "device", "--config", str(files / "tiny.py"), "--arrays", "toy.npz"]
    assert main(command) == 1
    assert "--arrays, --train-config and --workdir go together" in capsys.readouterr().err


@pytest.mark.long
def test_deeplabv3_of_pytorch_trains():
    step = device.deeplabv3_step(3)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(2, 33, 33, 3)).astype(np.float32),
        "label": rng.integers(0, 3, (2, 33, 33)).astype(np.uint8),
    }
    first, *_, last = [step(batch) for _ in range(3)]
    assert np.isfinite([first, last]).all() and last != first
