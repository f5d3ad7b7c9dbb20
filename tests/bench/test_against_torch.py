"""The training step beside PyTorch's: the same network and losses, and refused configs."""

import json

import jax
import numpy as np
import pytest

from ranet_jax.bench.torch_twin import torch_network, torch_step
from ranet_jax.cli import main
from ranet_jax.models import build_model
from ranet_jax.training.optimizer import build_optimizer
from ranet_jax.training.parallel import AXIS, map_step
from ranet_jax.training.step import create_state, init_variables, make_step

pytestmark = pytest.mark.slow

SOURCE = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.crop_size = (33, 41)
    config.model.update(
        backbone="resnet18", context="none", channels=8, output_stride=16, dropout=0.0
    )
    config.loss.class_weights = (1.0, 2.0, 3.0)
    config.optimizer.learning_rate = 0.01
    config.train.update(steps=10, batch_size=8)
    return config
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.long
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2"])
def test_both_steps_train_alike(backbone):
    """Four steps from the same weights, with a tenth of the labels ignored."""
    space = {}
    exec(SOURCE, space)
    config = space["get_config"]()
    config.model.update(backbone=backbone, read_head=backbone == "mobilenetv2")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, 33, 41)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    batch = {"image": rng.normal(size=(8, 33, 41, 3)).astype(np.float32), "label": labels}
    model = build_model(config, 3, AXIS)
    variables = init_variables(model, jax.random.PRNGKey(0), (33, 41))
    theirs = torch_step(config, torch_network(config, variables, 3))
    optimizer, _ = build_optimizer(config.optimizer, 10**6, variables["params"])
    state = create_state(variables, optimizer, jax.random.PRNGKey(1), ema=False)
    step = map_step(make_step(model, optimizer, config, 255), "pmap", jax.devices()[:1])
    losses = []
    for _ in range(4):
        state, metrics = step(state, batch)
        losses.append((float(metrics["fine"]), theirs(batch)))
    ours, torchs = np.array(losses).T
    np.testing.assert_allclose(ours, torchs, rtol=1e-3)
    assert ours[-1] < ours[0]


@pytest.mark.long
def test_the_command_prints_and_writes_both(config_file, tmp_path, capsys):
    output = tmp_path / "times.json"
    arguments = ["--config", str(config_file), "--against", "torch", "--repeats", "2"]
    assert main(["bench", "step", *arguments, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "batch 8 of 33 x 41 pixels" in printed
    results = json.loads(output.read_text())
    ours, theirs = results["step"]["ours"], results["step"]["theirs"]
    assert (ours["name"], theirs["name"]) == ("ranet_jax, step", "PyTorch, step")
    assert results["losses"][0] == pytest.approx(results["losses"][1], rel=1e-4)
    assert len(ours["seconds"]) == len(theirs["seconds"]) == 2
    ratios = [
        np.median(results[what]["ours"]["seconds"]) / np.median(results[what]["theirs"]["seconds"])
        for what in ("step", "scores", "convolution")
    ]
    assert list(results["ratios_of_medians"].values()) == pytest.approx(ratios)
    assert (
        f"ranet_jax takes {ratios[0]:.2f} times PyTorch's median for a step and {ratios[1]:.2f}"
        f" times for the score maps; XLA takes {ratios[2]:.2f} times for the convolution."
    ) in printed


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--config.model.context=ranet"], "set --config.model.context=none."),
        (["--config.model.stages=3"], "set --config.model.stages=4."),
        (["--config.model.backbone=mobilenetv2"], "set --config.model.read_head=True."),
        (
            ["--config.model.dilate_first_block=True"],
            "set --config.model.dilate_first_block=False.",
        ),
        (
            ["--config.model.backbone=mobilenetv3_large"],
            "set --config.model.backbone to a ResNet or mobilenetv2.",
        ),
        (["--config.loss.lovasz=1.0"], "set --config.loss.lovasz=0."),
        (["--repeats", "0"], "number of repeats is 0"),
    ],
)
def test_the_command_refuses(arguments, part, config_file, capsys):
    command = ["bench", "step", "--config", str(config_file), "--against", "torch", *arguments]
    assert main(command) == 1
    assert part in capsys.readouterr().err
