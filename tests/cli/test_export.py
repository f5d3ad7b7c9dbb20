"""`ranet export`: what it writes and says, and what it refuses before anything is computed."""

import importlib.util
import pathlib
import re
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

from helpers.exports import small_model
from helpers.fakes import primary_image
from helpers.port_command import assert_same_bits, read_back
from helpers.small_models import small_config
from ranet_jax import export, load
from ranet_jax.cli import export as command
from ranet_jax.cli import main
from ranet_jax.errors import UserError
from ranet_jax.inference.export import FORMATS, WEIGHTS
from ranet_jax.models.context import BLOCKS

PLAIN = next(block for block in BLOCKS if block.name == "none")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "model"
    small_model(small_config(PLAIN, stages=2)).save(directory)
    return directory


@pytest.mark.slow
def test_a_model_is_written_and_predicts_the_same(exported, tmp_path, capsys):
    output = tmp_path / "x.onnx"
    words = f"export {exported} --format onnx --size 17 30 --output {output} --no-cache"
    assert main(words.split()) == 0
    said = capsys.readouterr().out
    assert re.match(
        rf"Written to {re.escape(str(output))}, .*\. In ONNX Runtime .* differ by", said
    )
    image = primary_image(17, 30)
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["labels", "probabilities"], {"images": image[None]})
    expected = load(exported).predict(image)
    np.testing.assert_array_equal(labels[0], expected.labels)
    np.testing.assert_allclose(probabilities[0], expected.probabilities, atol=1e-5)


def test_every_format_can_be_chosen():
    listed = re.search(r"choices=\((.*)\)", pathlib.Path(command.__file__).read_text())
    assert listed is not None
    assert re.findall(r'"(\w+)"', listed[1]) == [*(each.name for each in FORMATS), *WEIGHTS]


@pytest.mark.slow
@pytest.mark.parametrize("format", WEIGHTS)
def test_weights_alone_are_those_of_port_reverse(exported, tmp_path, capsys, format):
    output, back = tmp_path / f"x.{format}", tmp_path / f"back.{format}"
    assert main(f"export {exported} --format {format} --output {output}".split()) == 0
    assert "in the names of ranet_jax; read back, they are the same.\n" in capsys.readouterr().out
    assert main(f"port {exported} --reverse --format {format} --output {back}".split()) == 0
    result = export(load(exported), tmp_path / f"api.{format}", format)
    assert result.comparison is None
    expected = read_back(back)
    for path in (output, tmp_path / f"api.{format}"):
        assert_same_bits(read_back(path), expected)


@pytest.mark.slow
@pytest.mark.parametrize("format", WEIGHTS)
def test_weights_alone_have_a_card_whose_code_reads_them(exported, tmp_path, monkeypatch, format):
    monkeypatch.chdir(tmp_path)
    assert main(f"export {exported} --format {format} --output x.{format}".split()) == 0
    card = pathlib.Path(f"x.{format}.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    assert_same_bits(read_back(pathlib.Path(f"x.{format}")), found["state_dict"])
    assert "The tensors have the names of ranet_jax" in card
    assert "## Classes" in card


@pytest.mark.slow
def test_a_card_lies_beside_the_file_and_is_not_overwritten(exported, tmp_path, capsys, refusal):
    words = f"export {exported} --format onnx --size 17 30 --output {tmp_path}/x.onnx --no-cache"
    (tmp_path / "x.onnx.md").write_text("mine")
    assert "x.onnx.md exists already" in refusal(*words.split())
    (tmp_path / "x.onnx.md").unlink()
    assert main(words.split()) == 0
    text = (tmp_path / "x.onnx.md").read_text()
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "ranet_jax"
    assert 'onnxruntime.InferenceSession("x.onnx")' in text
    assert '{"images": images}' in text
    assert "of 17 x 30 pixels." in text
    assert "In ONNX Runtime its probabilities differ by" in text


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("onnx --size 8 8 --output x.tflite", "x.tflite does not end in .onnx; make its"),
        ("onnx --size 8 --output x.onnx", "--size takes a height and a width in pixels"),
        ("onnx --size a b --output x.onnx", "--size takes a height and a width in pixels"),
        ("onnx --output x.onnx", "--size takes a height and a width in pixels"),
        ("pth --size 8 8 --output x.pth", "--size has no meaning for pth, which holds only the"),
        ("pth --output x.safetensors", "x.safetensors does not end in .pth; make its"),
        ("pth --output x.pth --config.eval.flip=True", "A field of the config has no meaning"),
        ("onnx --size 0 8 --output x.onnx", "The height of the images is 0; choose 1 or more."),
        (
            "stablehlo --size 8 999999999999 --output x.stablehlo",
            "The width of the images is 999999999999; choose 32768 or less.",
        ),
        ("onnx --size 8 8 --output no/x.onnx", "Directory no is missing; make it first."),
        ("onnx --size 8 8 --output there.onnx", "there.onnx exists already; choose another"),
        ("stablehlo --size 8 8 --output b.stablehlo", "b.stablehlo.json exists already; choose"),
        (
            "onnx --size 8 8 --output x.onnx --config.model.width=8",
            "--config.model.width cannot be set here",
        ),
    ],
)
def test_what_cannot_be_written(exported, tmp_path, monkeypatch, refusal, words, sentence):
    monkeypatch.chdir(tmp_path)
    for name in ("there.onnx", "b.stablehlo.json"):
        pathlib.Path(name).write_text("mine")
    assert refusal("export", exported, "--format", *words.split()).startswith(sentence)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "there.onnx": "mine",
        "b.stablehlo.json": "mine",
    }


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, refusal):
    found = importlib.util.find_spec

    def find_spec(name, *rest):
        return None if name in ("onnxruntime", "ai_edge_litert") else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    for name, package in (("onnx", "onnxruntime"), ("tflite", "ai_edge_litert")):
        words = f"export missing --format {name} --size 8 8 --output x.{name}"
        assert refusal(*words.split()) == (
            f"Format {name} needs the package {package}; install it with"
            f" `pip install 'ranet_jax[{name}]'`."
        )
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_is_not_known(exported, tmp_path):
    with pytest.raises(UserError, match=r"'coreml' is not known; choose one of stablehlo, onnx"):
        export(load(exported), tmp_path / "x", "coreml", (8, 8))
