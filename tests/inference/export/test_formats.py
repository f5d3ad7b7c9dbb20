"""Exported files, each loaded in its own runtime."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from helpers.exports import brightest, small_model
from helpers.fakes import DATASET, primary_image
from helpers.score_maps import interpolate, softmax
from helpers.small_models import block_id, small_config
from ranet_jax.errors import UserError
from ranet_jax.inference import export as exports
from ranet_jax.inference.export import FORMATS, export, find_format
from ranet_jax.models.context import BLOCKS
from ranet_jax.ops.schedules import SCHEDULES

pytestmark = pytest.mark.slow
LONG = pytest.mark.long

NAMES = [each.name for each in FORMATS]
each_format = pytest.mark.parametrize("name", NAMES)
SIZE = (33, 41)


def exported(model, directory, name, size):
    path = directory / f"model{find_format(name).suffix}"
    result = export(model, path, name, size)
    return path, result, find_format(name).open(path)


def description(path, name):
    if name == "onnx":
        import onnx

        properties = {each.key: each.value for each in onnx.load(path).metadata_props}
        texts = ("ranet_jax", "dataset")
        return {k: v if k in texts else json.loads(v) for k, v in properties.items()}
    if name == "savedmodel":
        return json.loads((path / "assets.extra" / "description.json").read_text())
    return json.loads(path.with_name(f"{path.name}.json").read_text())


# Only TensorFlow takes long to start.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG if name == "savedmodel" else []) for name in NAMES]
)
def test_a_file_computes_what_is_worked_out_by_hand(tmp_path, name):
    chosen = find_format(name)
    model = brightest(chosen.region_path)
    model.settings = dataclasses.replace(model.settings, mode="slide", flip=True)
    path, result, run = exported(model, tmp_path, name, (5, 7))
    images = np.stack([primary_image(5, 7, seed) for seed in range(2)]) // 50
    batches = [images] if chosen.any_batch else [images[:1], images[1:]]
    parts = [run(batch) for batch in batches]
    labels, probabilities = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    for number, image in enumerate(images):
        fine = interpolate(image[::2, ::2].astype(np.float64), (5, 7))
        np.testing.assert_allclose(probabilities[number], softmax(fine), atol=1e-5)
        np.testing.assert_array_equal(labels[number], probabilities[number].argmax(-1))
    assert labels.dtype == np.uint8
    assert probabilities.dtype == np.float32
    assert result.comparison.probabilities <= 1e-5
    said = description(path, name)
    assert said["class_names"] == list(DATASET.class_names)
    assert said["palette"] == [list(color) for color in DATASET.palette]
    assert said["ignore_label"] == 255
    assert said["normalization"]["std"] == [1.0, 1.0, 1.0]
    assert said["network"]["context"] == model.config.model.context
    assert said["input"]["shape"][1:] == [5, 7, 3]
    # At most its description lies beside the file.
    assert {each.name for each in tmp_path.iterdir()} <= {path.name, f"{path.name}.json"}


def check_network(tmp_path, name, config):
    model = small_model(config)
    _, result, run = exported(model, tmp_path, name, SIZE)
    assert result.comparison.passes()
    image = primary_image(*SIZE, seed=3)
    labels, probabilities = run(image[None])
    expected = model.predict(image)
    np.testing.assert_allclose(probabilities[0], expected.probabilities, atol=1e-4)
    assert np.mean(labels[0] != expected.labels) <= 1e-3
    return expected


RANET = next(block for block in BLOCKS if block_id(block) == "ranet")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "onnx" else LONG) for name in NAMES]
)
def test_regions_survive(tmp_path, name):
    expected = check_network(tmp_path, name, small_config(RANET, stages=2))
    assert len(np.unique(expected.regions.labels)) > 1


@pytest.mark.parametrize(
    "region_path", ["auto", *(pytest.param(name, marks=LONG) for name in SCHEDULES)]
)
def test_a_file_with_regions_is_for_every_platform(tmp_path, region_path):
    config = small_config(RANET)
    config.model.region_path = region_path
    path = tmp_path / "x.stablehlo"
    export(small_model(config), path, "stablehlo", SIZE)
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")


@LONG
@each_format
@pytest.mark.parametrize("block", [b for b in BLOCKS if b is not RANET], ids=block_id)
def test_every_context_block(tmp_path, name, block):
    if (name, block_id(block)) == ("tflite", "released"):
        with pytest.raises(UserError, match="Format tflite lacks the operation tfl"):
            export(small_model(small_config(block)), tmp_path / "x.tflite", name, SIZE)
        assert list(tmp_path.iterdir()) == []
    else:
        check_network(tmp_path, name, small_config(block))


PLAIN = next(block for block in BLOCKS if block.name == "none")


@LONG
@each_format
@pytest.mark.parametrize(
    "backbone", ["resnet50", "resnet50d", "hrnetv2_w48", "mobilenetv2", "mobilenetv3_large"]
)
def test_every_family_of_backbones(tmp_path, name, backbone):
    settings = {} if backbone.startswith("resnet") else {"width": 64}  # others have one width
    settings |= {"output_stride": 4} if backbone.startswith("hrnet") else {}
    check_network(tmp_path, name, small_config(PLAIN, backbone=backbone, **settings))


@LONG
@pytest.mark.parametrize("region_path", ["planes", "streaming", "dense"])
def test_onnx_has_every_order_of_the_pairs(tmp_path, monkeypatch, region_path):
    chosen = dataclasses.replace(find_format("onnx"), region_path=region_path)
    monkeypatch.setattr(exports, "FORMATS", [chosen])
    check_network(tmp_path, "onnx", small_config(RANET))


def test_a_large_image_passes_at_the_size_that_predict_gives_it(tmp_path):
    model = brightest()
    model.settings = dataclasses.replace(model.settings, max_pixels=60)
    _, _, run = exported(model, tmp_path, "stablehlo", (9, 14))
    image = primary_image(9, 14)
    np.testing.assert_allclose(
        run(image[None])[1][0], model.predict(image).probabilities, atol=1e-5
    )


def other_numbers(chosen, change):
    """The format with a runtime that gives other numbers."""

    def open_changed(path):
        run = chosen.open(path)
        return lambda images: change(*run(images))

    return dataclasses.replace(chosen, open=open_changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda labels, probabilities: (labels, probabilities + np.float32(2e-4)),
        lambda labels, probabilities: (labels, probabilities * np.float32(np.nan)),
        lambda labels, probabilities: (labels, probabilities[:, :-1]),
        lambda labels, probabilities: (2 - labels, probabilities),
    ],
    ids=["probabilities", "nan", "shape", "labels"],
)
def test_a_runtime_that_computes_something_else_is_refused(tmp_path, monkeypatch, change):
    chosen = find_format("stablehlo")
    monkeypatch.setattr(exports, "FORMATS", [other_numbers(chosen, change)])
    with pytest.raises(UserError, match=r"gives other results .* nothing is written\.$"):
        export(brightest(), tmp_path / "x.stablehlo", "stablehlo", (5, 7))
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_does_not_run_the_file_is_told_of(tmp_path, monkeypatch):
    def fail(path):
        raise RuntimeError("No such operation. More of it")

    chosen = dataclasses.replace(find_format("stablehlo"), open=fail)
    monkeypatch.setattr(exports, "FORMATS", [chosen])
    with pytest.raises(UserError, match=r"does not run the .* \(No such operation\); nothing is"):
        export(brightest(), tmp_path / "x.stablehlo", "stablehlo", (5, 7))
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_midway_leaves_nothing(tmp_path, monkeypatch):
    chosen = find_format("stablehlo")

    def write(program, description, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "FORMATS", [dataclasses.replace(chosen, write=write)])
    with pytest.raises(UserError, match="No space left on device"):
        export(brightest(), tmp_path / "x.stablehlo", "stablehlo", (5, 7))
    assert list(tmp_path.iterdir()) == []


def test_onnx_names_an_operation_that_it_lacks(tmp_path):
    config = small_config(PLAIN)
    config.model.dtype = "bfloat16"
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(UserError, match=r"bfloat16.*config\.model\.dtype to float32\.$"),
    ):
        export(small_model(config), tmp_path / "x.onnx", "onnx", SIZE)
    assert list(tmp_path.iterdir()) == []
