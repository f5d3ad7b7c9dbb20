"""Classifiers of a state dict: kept, left out, or new if the number of classes differs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.coverage import refused, report, without
from helpers.numpy_layers import random_variables
from helpers.small_models import block_id, every_block, small_config
from helpers.torch_networks import torchvision as tv
from ranet_jax.models import build_model
from ranet_jax.porting import port, port_state_dict
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.networks import find_network
from ranet_jax.porting.port import flatten

pytestmark = pytest.mark.slow


def test_a_source_without_classifier_builds_none(resnet18, saved):
    module, variables = port(saved(without(resnet18, "fc")), "resnet18")
    assert module.num_classes is None
    assert "fc" not in variables["params"]
    ported = port_state_dict(without(resnet18, "fc"), "resnet18", output_stride=8)
    assert ported.summary() == (
        "resnet18: 100 arrays in the names of torchvision, output stride 8, no classifier."
    )


@pytest.mark.parametrize("held", [4, None])
def test_another_number_of_classes_renews_the_classifier_alone(resnet18, held):
    state = without(resnet18, "fc")
    if held:
        state["fc.weight"] = np.ones((held, 512), np.float32)
        state["fc.bias"] = np.ones(held, np.float32)
    ported = port_state_dict(state, "resnet18", num_classes=5)
    arrays = flatten(ported.variables)
    assert set(ported.fresh) == {"params/fc/kernel", "params/fc/bias"}
    assert arrays["params/fc/kernel"].shape == (512, 5)
    np.testing.assert_array_equal(arrays["params/fc/bias"], np.zeros(5))
    np.testing.assert_array_equal(
        arrays["params/layer4_block1/bn2/scale"], resnet18["layer4.1.bn2.weight"]
    )
    assert ported.summary() == (
        "resnet18: 100 arrays in the names of torchvision, output stride 32, 5 classes.\n"
        "2 arrays have new initial values: those of fc."
    )


def test_the_same_number_of_classes_keeps_the_classifier(resnet18):
    ported = port_state_dict(resnet18, "resnet18", num_classes=5)
    assert ported.fresh == ()
    kernel = ported.variables["params"]["fc"]["kernel"]
    np.testing.assert_array_equal(kernel, resnet18["fc.weight"].T)


@pytest.mark.long
def test_another_number_of_classes_allows_nothing_else_to_be_missing(resnet18):
    _, line = report(without(resnet18, r"^bn1\.bias"), num_classes=3)
    assert line == "  missing: bn1.bias (64,) of the network"


def test_another_number_of_classes_renews_both_of_a_segmenter_s_classifiers():
    model = tv.models.segmentation.fcn_resnet101(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=True
    )
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    ported = port_state_dict(state, "fcn_resnet101", num_classes=2)
    assert set(ported.fresh) == {
        f"params/{module}/{leaf}"
        for module in ("fine_logit", "auxiliary/logit")
        for leaf in ("kernel", "bias")
    }
    assert ported.variables["params"]["auxiliary"]["logit"]["bias"].shape == (2,)


# Layers with an entry for each class, besides the segmenter's own classifier.
OTHER_CLASSIFIERS = {
    "ranet": {"context/rcb/semantic_logit"},
    "released": {"context/dsn_semantic_logit"},
    "ocr": {"context/semantic_logit"},
    "ocr_mmsegmentation": {"context/semantic_logit"},
    "lraspp": {"skipped_logit"},
    "danet": {"position_logit", "channel_logit"},
}


@every_block
def test_every_block_goes_out_and_comes_in_and_its_classifiers_are_renewed(block):
    """A segmenter's own state dict is read with its number of classes and with another."""
    classifiers = {"fine_logit"} | OTHER_CLASSIFIERS.get(block_id(block), set())
    config = small_config(block)
    model = build_model(config, 3)
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    arrays = {path: np.asarray(array) for path, array in flatten(variables).items()}
    naming = find_network(config).namings[-1]
    state = to_tensors(arrays, naming)
    kept = port_state_dict(state, config)
    assert kept.fresh == ()
    for path, array in flatten(kept.variables).items():
        np.testing.assert_array_equal(array, arrays[path], err_msg=path)
    ported = port_state_dict(state, config, num_classes=5)
    renewed = {path.removeprefix("params/").rpartition("/")[0] for path in ported.fresh}
    assert renewed == classifiers
    found = flatten(ported.variables)
    for path, array in arrays.items():
        if path not in ported.fresh:
            np.testing.assert_array_equal(found[path], array, err_msg=path)
        else:
            assert found[path].shape[-1] == 5


def test_a_classifier_of_no_classes_is_none(resnet18):
    empty = {"fc.weight": np.zeros((0, 512), np.float32), "fc.bias": np.zeros(0, np.float32)}
    assert "has 0 classes" in refused(resnet18 | empty)


def test_a_segmenter_has_fewer_classes_than_bytes_have_values(resnet18):
    backbone = {f"backbone.{name}": value for name, value in resnet18.items()}
    assert "has 256 classes; a segmenter has at most 255" in refused(
        backbone, "fcn_resnet101", num_classes=256
    )
