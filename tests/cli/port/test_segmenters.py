"""`ranet port` of whole segmenters: trained ones in both directions, and torchvision's."""

import jax
import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

import ranet_jax
from helpers.port_command import CONFIG, DATASET, assert_same_bits, command, read_back
from helpers.torch_networks import randomised
from helpers.torch_networks import torchvision as tv
from ranet_jax import checkpoints, porting
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.pipeline.metadata import numbered_classes
from ranet_jax.training.initialization import initialize

pytestmark = pytest.mark.slow

# ------------------------------------------------------------------------------ trained segmenters


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small RANet's config file and variables, its export and a working directory."""
    root = tmp_path_factory.mktemp("trained")
    (root / "config.py").write_text(CONFIG)
    config = get_config()
    images = jax.ShapeDtypeStruct((1, 24, 24, 3), np.float32)
    shapes = jax.eval_shape(build_model(config, 2).init, jax.random.PRNGKey(0), images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    checkpoints.export(root / "exported", config, DATASET, variables)
    checkpoints.prepare_workdir(root / "run", config, DATASET)
    with checkpoints.open_manager(root / "run", 1) as manager:
        checkpoints.save(manager, 1, {"step": 1, "ema_params": None, **variables})
    return root, variables


def get_config():
    scope = {}
    exec(CONFIG, scope)
    config = scope["get_config"]()
    assert isinstance(config, ConfigDict)
    return config


@pytest.mark.parametrize("checkpoint", ["exported", "run", "run/checkpoints/1"])
def test_a_trained_segmenter_goes_there_and_back(trained, tmp_path, checkpoint):
    root, variables = trained
    state, output = tmp_path / "state.pth", tmp_path / "again"
    options = ("--reverse", "--format", "pth", "--output", state)
    assert command(root / checkpoint, *options, "--naming", "ranet_jax") == 0
    tensors, params = read_back(state), variables["params"]
    assert len(tensors) == len(jax.tree.leaves(variables))
    np.testing.assert_array_equal(
        tensors["backbone.layer2.0.downsample.0.weight"],
        params["backbone"]["layer2_block0"]["conv_shortcut"]["kernel"].transpose(3, 2, 0, 1),
    )
    np.testing.assert_array_equal(
        tensors["context.rcb.group_kernel_deviation"],
        params["context"]["rcb"]["group_kernel_deviation"],
    )
    np.testing.assert_array_equal(tensors["fine_logit.bias"], params["fine_logit"]["bias"])
    assert command(state, "--model", root / "config.py", "--output", output) == 0
    found = checkpoints.read_variables(output / "variables")
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    assert_same_bits(
        dict(enumerate(jax.tree.leaves(found))), dict(enumerate(jax.tree.leaves(variables)))
    )
    assert (output / "config.json").is_file()
    assert ranet_jax.load(output).dataset.class_names == ("class_0", "class_1")


def test_a_network_without_twin_says_so(trained, tmp_path, capsys):
    root, _ = trained
    state, output = tmp_path / "state.safetensors", tmp_path / "again"
    options = ("--reverse", "--format", "safetensors", "--output", state)
    assert command(root / "exported", *options) == 0
    arguments = ("--model", root / "config.py", "--output", output, "--verify")
    assert command(state, *arguments) == 1
    assert capsys.readouterr().err == (
        "ranet: None of torchvision, timm, mmsegmentation and segmentation_models.pytorch has"
        " segmenter to compare with; leave the comparison out.\n"
    )
    assert not output.exists()


def test_the_caller_s_config_stays_as_it_is(trained, tmp_path):
    root, _ = trained
    state = tmp_path / "state.safetensors"
    porting.reverse(root / "exported", state)
    config = get_config()
    config.model.dtype = "bfloat16"
    before = config.to_dict()
    module, _ = porting.port(state, config, output_stride=4)
    assert module.backbone.output_stride == 4
    assert config.to_dict() == before


def test_a_segmenter_of_other_classes_than_the_data_set_s(trained, tmp_path):
    root, _ = trained
    state = tmp_path / "state.safetensors"
    porting.reverse(root / "exported", state)
    ported = porting.port_state_dict(porting.read_state_dict(state), get_config())
    with pytest.raises(UserError, match="scores 2 classes, but data set 'three' has 3; name the"):
        porting.write_ported(tmp_path / "out", ported, state, numbered_classes("three", 3))
    assert [path.name for path in tmp_path.iterdir()] == [state.name]


# ------------------------------------------------------------------------- torchvision's segmenters


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (65, 49, 3)).astype(np.uint8)


def torch_scores(model, image):
    """torchvision's scores of an image, at the image's size."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1)[None])
    with torch.no_grad():
        return model.eval().double()(images)["out"][0].numpy()


@pytest.fixture(scope="module")
def fcn(image):
    """An FCN with four classes that each win somewhere in the image."""
    torch.manual_seed(0)
    model = tv.models.segmentation.fcn_resnet101(
        weights=None, weights_backbone=None, num_classes=4, aux_loss=False
    )
    randomised(model)
    means = torch_scores(model, image).mean(axis=(1, 2))
    model.classifier[4].bias.data -= torch.from_numpy(means)
    return model


@pytest.mark.long
def test_a_ported_segmenter_segments_as_torchvision_s(fcn, image, tmp_path):
    torch.save(fcn.float().state_dict(), tmp_path / "fcn.pth")
    output = tmp_path / "out"
    assert command(tmp_path / "fcn.pth", "--model", "fcn_resnet101", "--output", output) == 0
    assert {path.name for path in output.iterdir()} == {
        *("variables", "port.json", "kept.safetensors", "config.json", "dataset.json"),
        *("manifest.json", "README.md"),
    }
    model = ranet_jax.load(output)
    assert model.dataset.num_classes == 4
    scores = torch_scores(fcn, image)
    expected = scores.argmax(axis=0)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    first, second = np.sort(scores, axis=0)[:-3:-1]
    clear = first - second > 1e-4 * np.abs(scores).max()
    assert clear.mean() > 0.99
    labels = model.predict(image).labels
    assert (labels.dtype, labels.shape) == (np.uint8, (65, 49))
    np.testing.assert_array_equal(labels[clear], expected[clear])


@pytest.mark.long
def test_a_segmenter_on_mobilenetv3_segments_and_starts_a_training(image, tmp_path):
    """It gives torchvision's labels; another number of classes renews its two classifiers."""
    torch.manual_seed(0)
    model = randomised(
        tv.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=3
        )
    )
    means = torch_scores(model, image).mean(axis=(1, 2))
    model.classifier.low_classifier.bias.data -= torch.from_numpy(means)
    torch.save(model.float().state_dict(), tmp_path / "w.pth")
    output = tmp_path / "out"
    arguments = ("--model", "lraspp_mobilenet_v3_large", "--output", output)
    assert command(tmp_path / "w.pth", *arguments) == 0
    scores = torch_scores(model, image)
    first, second = np.sort(scores, axis=0)[:-3:-1]
    clear = first - second > 1e-4 * np.abs(scores).max()
    assert clear.mean() > 0.99
    assert len(np.unique(scores.argmax(axis=0))) > 1
    ported = ranet_jax.load(output)
    found = ported.predict(image).labels
    np.testing.assert_array_equal(found[clear], scores.argmax(axis=0)[clear])

    config = ported.config.copy_and_resolve_references()
    with config.unlocked():
        config.model.init_from = str(output)
        config.model.init_allow_missing = "logit"
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(build_model(config, 5).init, jax.random.PRNGKey(0), images)
    fresh = jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), shapes)
    variables, told = initialize(config.model, fresh)
    assert "4 from random values (fine_logit, skipped_logit)" in told
    kernel = variables["params"]["context"]["scale"]["kernel"]
    weight = model.classifier.scale[1].weight.detach().numpy()
    np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))
    assert (variables["params"]["skipped_logit"]["kernel"] == 7).all()


def test_the_defaults_are_those_the_test_assumes():
    data = default_config().data
    np.testing.assert_allclose(np.array(data.mean) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(data.std) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
