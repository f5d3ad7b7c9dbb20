"""`ranet bench export`: a model timed in the runtimes that it is exported for."""

import json
import subprocess
import sys

import numpy as np
import pytest

from helpers.exports import small_model
from helpers.small_models import small_config
from ranet_jax.bench import runtime_process
from ranet_jax.bench.exports import RuntimeCost, exports_report, exports_results
from ranet_jax.bench.measure import Timing
from ranet_jax.cli import main
from ranet_jax.files.paths import as_path
from ranet_jax.inference.export import FORMATS
from ranet_jax.models.context import BLOCKS

PLAIN = next(block for block in BLOCKS if block.name == "none")


def test_the_table_and_the_results_say_the_same():
    cost = RuntimeCost("onnx", "ONNX Runtime", Timing("onnx", 1, 2.5, (0.03, 0.01, 0.02)))
    text = exports_report([cost], as_path("runs/demo"), (33, 41))
    (row,) = (line for line in text.splitlines() if line.startswith("| onnx"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["onnx", "ONNX Runtime", "2.50", "20.0", "10.0-30.0"]
    assert "demo, one image of 33 x 41 pixels" in text
    found = exports_results([cost], as_path("runs/demo"), (33, 41))
    assert (found["model"], found["size"]) == ("demo", [33, 41])
    assert found["runtimes"][0]["median_seconds"] == 0.02
    assert json.loads(json.dumps(found))


def test_every_format_is_timed():
    assert [*runtime_process.OPENERS] == ["predict", *(each.name for each in FORMATS)]


@pytest.mark.slow
def test_the_process_knows_no_jax_before_its_runtime_does():
    program = (
        "import sys, ranet_jax.bench.runtime_process\n"
        "assert not {'jax', 'tensorflow', 'onnxruntime'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
@pytest.mark.long
def test_a_model_beside_its_exports(tmp_path, capsys):
    small_model(small_config(PLAIN, stages=2)).save(tmp_path / "model")
    output = tmp_path / "results.json"
    words = f"bench export {tmp_path / 'model'} --size 17 30 --repeats 2 --output {output}"
    assert main([*words.split(), "--formats", "onnx", "stablehlo"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert rows == ["predict", "onnx", "stablehlo"]
    for found in json.loads(output.read_text())["runtimes"]:
        assert len(found["timing"]["seconds"]) == 2
        assert 0 < min(found["timing"]["seconds"]) < found["timing"]["first_seconds"]


@pytest.mark.slow
def test_what_cannot_be_timed(tmp_path, capsys):
    model = tmp_path / "model"
    small_model(small_config(PLAIN, stages=2)).save(model)
    for words, sentence in (
        ("--size 0 8", "The height is 0; choose 1 or more."),
        ("--size 8 8 --repeats 0", "The number of predictions is 0; choose 1 or more."),
        ("--size 8 8 --output x.txt", "The results are written as JSON"),
    ):
        assert main(f"bench export {model} {words}".split()) == 1
        assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_that_fails_is_told_of(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 3), np.uint8))
    (tmp_path / "x.onnx").write_bytes(b"none")
    from ranet_jax.bench.exports import _time
    from ranet_jax.errors import UserError

    with pytest.raises(UserError, match=r"The process that times onnx failed: .*\.$"):
        _time("onnx", tmp_path / "x.onnx", tmp_path / "images.npy", 1)
