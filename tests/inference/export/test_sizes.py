"""Exports for images of any size, in their own runtimes."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from helpers.exports import brightest, small_model
from helpers.fakes import primary_image
from helpers.score_maps import interpolate, softmax
from helpers.small_models import block_id, small_config
from ranet_jax.errors import UserError
from ranet_jax.inference.export import export, find_format
from ranet_jax.inference.export.program import Program, whole_image_model
from ranet_jax.models.context import BLOCKS

pytestmark = pytest.mark.slow
LONG = pytest.mark.long

# Blocks that need the size of the image: for pairs of pixels, bins of pooling, or sums of stages.
OF_ONE_SIZE = {
    *("ranet", "released", "nonlocal", "nonlocal_mmsegmentation", "danet"),
    *("psanet", "psanet_mmsegmentation"),
    *("asymmetric", "psp", "psp_segmentation_models", "unet", "fpn"),
}


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("name", ["stablehlo", pytest.param("savedmodel", marks=LONG)])
def test_one_file_takes_images_of_several_sizes(tmp_path, name, align_corners):
    chosen = find_format(name)
    model = brightest()
    model.settings = dataclasses.replace(model.settings, align_corners=align_corners)
    path = tmp_path / f"any{chosen.suffix}"
    result = export(model, path, name, "dynamic")
    assert result.comparison.passes()
    assert result.sizes == "at least 33 pixels a side"
    run = chosen.open(path)
    for height, width in ((33, 50), (47, 34)):
        image = primary_image(height, width) // 50
        labels, probabilities = run(np.stack([image, image]))
        fine = interpolate(image[::2, ::2].astype(np.float64), (height, width), align_corners)
        np.testing.assert_allclose(probabilities[1], softmax(fine), atol=1e-5)
        np.testing.assert_array_equal(labels, probabilities.argmax(-1))
    if name == "stablehlo":
        said = json.loads((tmp_path / "any.stablehlo.json").read_text())
        assert said["input"]["shape"] == ["any", "any", "any", 3]
        assert said["input"]["smallest_side"] == 33


@LONG
def test_which_blocks_need_the_size():
    """Blocks are only traced: what can be traced can also be lowered, as the long test shows."""
    refused = set()
    for block in BLOCKS:
        try:
            Program(whole_image_model(small_model(small_config(block))), None).check_sizes()
        except UserError as error:
            assert str(error).endswith("only for images of one size; give a height and a width.")
            refused.add(block_id(block))
    assert refused == OF_ONE_SIZE


@LONG
@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block_id(block) not in OF_ONE_SIZE], ids=block_id
)
def test_every_other_block_takes_any_size(tmp_path, block):
    check_another_size(tmp_path, small_config(block))


@LONG
@pytest.mark.parametrize(
    ("backbone", "output_stride"),
    [("mobilenetv2", 8), ("mobilenetv2", 32), ("mobilenetv3_large", 32)],
)
def test_mobilenets_take_any_size(tmp_path, backbone, output_stride):
    (block,) = (block for block in BLOCKS if block_id(block) == "none")
    settings = {"backbone": backbone, "output_stride": output_stride, "width": 64}
    check_another_size(tmp_path, small_config(block, **settings))


def check_another_size(tmp_path, config):
    model = small_model(config)
    export(model, tmp_path / "x.stablehlo", "stablehlo", "dynamic")
    run = find_format("stablehlo").open(tmp_path / "x.stablehlo")
    image = primary_image(41, 58, seed=3)
    expected = model.predict(image).probabilities
    np.testing.assert_allclose(run(image[None])[1][0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("onnx", "dynamic", "takes images of one size; give a height and a width, or choose stab"),
        ("tflite", "dynamic", "takes images of one size"),
        ("onnx", None, "The size of the images is None; give a height and a width, or 'dynamic'"),
    ],
)
def test_sizes_that_a_format_does_not_take(tmp_path, name, size, sentence):
    with pytest.raises(UserError, match=sentence):
        export(brightest(), tmp_path / f"x.{name}", name, size)
    assert list(tmp_path.iterdir()) == []


def test_an_image_below_the_smallest_size_is_refused_by_the_runtime(tmp_path):
    export(brightest(), tmp_path / "x.stablehlo", "stablehlo", "dynamic")
    exported = jax.export.deserialize(bytearray((tmp_path / "x.stablehlo").read_bytes()))
    with pytest.raises(ValueError, match="refining shapes"):
        exported.call(np.zeros((1, 32, 40, 3), np.uint8))
