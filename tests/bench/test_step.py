"""The training step compiled for an absent machine; two CPUs stand in for it."""

import json

import jax
import jaxtyping
import pytest

from ranet_jax.bench import step, targets
from ranet_jax.cli import main
from ranet_jax.config import default_config
from ranet_jax.errors import UserError

pytestmark = pytest.mark.slow

SOURCE = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.crop_size = (32, 40)
    config.model.update(backbone="resnet18", width=4, stages=1, channels=8, num_regions=4)
    config.model.update(per_region=2, region_path="dense")
    config.loss.class_weights = (1.0, 2.0, 3.0)
    config.train.update(steps=10, batch_size=4, parallel="shard_map")
    return config
"""


@pytest.fixture(autouse=True)
def states_of_shapes():
    """Disable jaxtyping: JAX builds states of shapes and argument notes while it lowers a step."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def two_cpus(name="pair"):
    devices = tuple(jax.devices()[:2])
    return targets.Target(name, "gpu", devices, 2**30, {"xla_embed_ir_in_executable": False})


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    monkeypatch.setattr("ranet_jax.bench.targets.open_target", two_cpus)
    path = tmp_path / "tiny.py"
    path.write_text(SOURCE)
    return path


def test_the_command_compiles_the_step_with_and_without_the_block(config_file, tmp_path, capsys):
    output = tmp_path / "step.json"
    arguments = ["--config", str(config_file), "--target", "pair", "--output", str(output)]
    assert main(["bench", "step", *arguments, "--config.train.batch_size=2"]) == 0
    opening, table, counted, planned = capsys.readouterr().out.strip().split("\n\n")[:4]
    assert "batch 2 of 32 x 40 pixels, 3 categories" in opening
    assert "mapped by shard_map over pair: 2 x cpu" in opening
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert cells[0] == ["per device", "context=ranet", "context=none"]
    rows = {name: values for name, *values in cells[2:]}
    assert rows["fits in 1.0 GiB"] == ["yes", "yes"]
    assert "estimated cycles" not in rows
    assert counted.startswith("Counted in the compiled program: launches")
    assert planned.startswith("Memory that the compiler plans for one device")

    results = json.loads(output.read_text())
    assert results["batch_size"] == 2
    assert results["target"]["devices"] == 2
    assert results["target"]["versions"]["jax"] == jax.__version__
    ranet, plain = results["steps"]
    assert [ranet["context"], plain["context"]] == ["ranet", "none"]
    assert ranet["parameters"] > plain["parameters"]
    assert ranet["program"]["launches"] > plain["program"]["launches"]
    for cost in (ranet, plain):
        memory, parameters = cost["memory"], 4 * cost["parameters"]
        # A device holds the parameters, their momentum, and its own image and label.
        assert memory["arguments"] > 2 * parameters + 32 * 40 * (3 * 4 + 1)
        parts = ("arguments", "results", "temporary", "code")
        assert memory["total"] == sum(memory[part] for part in parts) - memory["aliased"]
        # Every gradient is summed over the devices.
        assert cost["program"]["collectives"]["all-reduce"]["bytes"] > parameters


@pytest.mark.long
def test_both_mappings_compile_to_the_same_work(config_file):
    config = default_config()
    config.data.crop_size = (32, 40)
    config.model.update(backbone="resnet18", width=4, stages=2, context="none", channels=8)
    config.train.batch_size = 2
    found = []
    for mode in ("pmap", "shard_map"):
        config.train.parallel = mode
        (cost,) = step.compile_steps(config, two_cpus(), 3)
        found.append((cost.compiled.memory.arguments, cost.compiled.program.collectives))
    assert found[0] == found[1]


def test_a_batch_that_the_devices_cannot_share():
    config = default_config()
    config.train.update(batch_size=3, microbatches=2)
    sentence = (
        "config.train.batch_size 3 is not divisible by 2 devices x 2 microbatches; choose a"
        " multiple of 4."
    )
    with pytest.raises(UserError) as refused:
        step.compile_steps(config, two_cpus(), 3)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--target", "v5e"], "Target 'v5e' is unknown; choose h100"),
        (["--target", "h100", "--output", "step"], "a name that ends in .json"),
        (["--target", "h100", "--config.model.colour=1"], "colour"),
        (["--target", "h100", "--repeats", "3"], "--repeats has no meaning with --target"),
    ],
)
def test_the_command_refuses(arguments, part, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(targets, "_prepare_process", lambda: None)
    path = tmp_path / "tiny.py"
    path.write_text(SOURCE)
    assert main(["bench", "step", "--config", str(path), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


def test_no_categories(config_file, capsys):
    arguments = ["--config", str(config_file), "--target", "pair", "--num-classes", "0"]
    assert main(["bench", "step", *arguments]) == 1
    assert capsys.readouterr().err == "ranet: The number of categories is 0; choose 1 or more.\n"
