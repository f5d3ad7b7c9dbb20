"""Exports with smaller weights, and how far their results may be from the model's."""

import jax
import numpy as np
import onnx
import pytest

from helpers.exports import small_model
from helpers.fakes import primary_image
from helpers.small_models import small_config
from ranet_jax.errors import UserError
from ranet_jax.inference import export as exports
from ranet_jax.inference.export import export, find_format
from ranet_jax.inference.export.quantization import BOUNDS, Bound
from ranet_jax.models.context import BLOCKS

pytestmark = pytest.mark.slow
LONG = pytest.mark.long

PLAIN = next(block for block in BLOCKS if block.name == "none")
SIZE = (33, 41)


@pytest.fixture
def model():
    return small_model(small_config(PLAIN, stages=2, width=16))


def sizes(report):
    """Megabytes after and before quantisation."""
    words = report.split(" It takes ")[1].split()
    return float(words[0]), float(words[4])


def rounded(array):
    return array.astype(np.float16).astype(np.float32) if array.ndim > 1 else array


@pytest.mark.parametrize("name", ["stablehlo", pytest.param("savedmodel", marks=LONG)])
def test_kernels_in_half_precision_are_those_rounded(tmp_path, model, name):
    path = tmp_path / f"x{find_format(name).suffix}"
    after, before = sizes(export(model, path, name, SIZE, "float16").report)
    assert after < 0.9 * before
    image = primary_image(*SIZE, seed=3)
    expected = model.copy(variables=jax.tree.map(rounded, model.variables)).predict(image)
    found = find_format(name).open(path)(image[None])[1][0]
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-5)
    assert np.abs(found - model.predict(image).probabilities).max() > 1e-5


@pytest.mark.parametrize("name", ["onnx", pytest.param("tflite", marks=LONG)])
def test_kernels_in_8_bits_are_within_the_bound(tmp_path, model, name):
    path = tmp_path / f"x.{name}"
    result = export(model, path, name, SIZE, "int8")
    after, before = sizes(result.report)
    assert after < before / 2
    assert after == pytest.approx(path.stat().st_size / 1e6, abs=0.006)
    assert 1e-4 < result.comparison.probabilities <= BOUNDS["int8"].probabilities
    if name == "onnx":
        assert "ConvInteger" in {node.op_type for node in onnx.load(path).graph.node}
        assert len(onnx.load(path).metadata_props) > 5
    assert {each.name for each in tmp_path.iterdir()} <= {path.name, f"{path.name}.json"}


def test_what_is_too_far_is_not_written(tmp_path, model, monkeypatch):
    monkeypatch.setitem(exports.BOUNDS, "int8", Bound(1e-4, 1e-3))
    with pytest.raises(UserError, match=r"gives other results .* nothing is written\.$"):
        export(model, tmp_path / "x.onnx", "onnx", SIZE, "int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "quantize", "sentence"),
    [
        ("stablehlo", "int8", "Format stablehlo cannot be quantised to 'int8'; choose 'float16'"),
        ("onnx", "float16", "Format onnx cannot be quantised to 'float16'; choose 'int8' or leave"),
        ("onnx", "int3", "Format onnx cannot be quantised to 'int3'"),
        ("pth", "int8", "Format pth holds only the weights, unchanged; leave the quantisation"),
    ],
)
def test_what_a_format_has_not(tmp_path, model, name, quantize, sentence):
    size = None if name == "pth" else SIZE
    with pytest.raises(UserError, match=sentence):
        export(model, tmp_path / f"x.{name}", name, size, quantize)
    assert list(tmp_path.iterdir()) == []
