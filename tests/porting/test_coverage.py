"""Coverage of a state dict's tensors: each used once, each array filled, or a report of it all."""

import re

import numpy as np
import pytest

from helpers.coverage import refused, report, without
from helpers.port_command import assert_same_bits
from helpers.torch_networks import torchvision as tv
from ranet_jax.errors import UserError
from ranet_jax.porting import Misfit, port, port_state_dict
from ranet_jax.porting.coverage import to_arrays, to_tensors
from ranet_jax.porting.name_patterns import Entry, Naming, conv, copies
from ranet_jax.porting.networks import NETWORKS
from ranet_jax.porting.port import flatten

pytestmark = pytest.mark.slow

# ---------------------------------------------------------------------------------- the report


def test_all_that_does_not_fit_is_in_one_report(resnet18):
    state = without(resnet18, r"layer2\.1\.bn2\.running_var|layer3\.0\.conv1\.weight")
    state["layer5.0.conv1.weight"] = np.zeros((3, 4), np.float32)
    state["conv1.bias"] = np.zeros(64, np.float32)
    state["layer1.0.conv1.weight"] = np.zeros((64, 64, 1, 1), np.float32)
    state["fc.weight"] = np.zeros((512, 5), np.float32)
    head, *lines = report(state)
    assert head.startswith(
        "The weights do not fit the network: 2 of its arrays are missing, 2 tensors are unexpected"
        " and 2 have another shape;"
    )
    assert sorted(lines) == [
        "  mismatching: fc.weight (512, 5), but the network has (5, 512)",
        "  mismatching: layer1.0.conv1.weight (64, 64, 1, 1), but the network has (64, 64, 3, 3)",
        "  missing: layer2.1.bn2.running_var (128,) of the network",
        "  missing: layer3.0.conv1.weight (3, 3, 128, 256) of the network",
        "  unexpected: conv1.bias (64,)",
        "  unexpected: layer5.0.conv1.weight (3, 4)",
    ]


def test_shapes_are_equal_or_wrong_however_many_elements(resnet18):
    """A BatchNorm's scale as [64, 1] and a transposed kernel: neither is accepted."""
    state = dict(resnet18)
    state["bn1.weight"] = state["bn1.weight"][:, None]
    state["conv1.weight"] = state["conv1.weight"].transpose(2, 3, 1, 0)
    state["fc.bias"] = np.zeros((), np.float32)
    lines = report(state)
    assert "  mismatching: bn1.weight (64, 1), but the network has (64,)" in lines
    assert "  mismatching: conv1.weight (7, 7, 3, 64), but the network has (64, 3, 7, 7)" in lines
    assert any("fc.bias ()" in line for line in lines)


def test_the_weights_of_another_depth_do_not_fit(resnet18):
    advice, head, *lines = report(resnet18, "resnet34")
    assert advice == (
        "These weights belong to resnet18, in the names of torchvision; you asked for resnet34."
    )
    blocks = (3 + 4 + 6 + 3) - (2 + 2 + 2 + 2)
    arrays = 2 + 2 * 4  # per block: two kernels, two BatchNorms
    assert f"network: {blocks * arrays} of its arrays are missing, 0 tensors are" in head
    assert "  missing: layer3.5.conv2.weight (3, 3, 256, 256) of the network" in lines
    assert not [line for line in lines if not line.startswith("  missing: layer")]


def test_two_tensors_for_one_array(tmp_path):
    """The second has the number of a submodule that torchvision's first block does not have."""
    model = tv.models.mobilenet_v2(num_classes=2)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    state["features.1.conv.1.0.weight"] = state["features.1.conv.0.0.weight"]
    _, line = report(state, "mobilenetv2")
    assert line == (
        "  unexpected: features.1.conv.1.0.weight (32, 1, 3, 3), in addition to"
        " features.1.conv.0.0.weight"
    )


def test_an_added_tensor_of_a_known_kind_is_unexpected(resnet18):
    state = resnet18 | {"fc2.weight": np.zeros((5, 512), np.float32)}
    assert report(state)[1:] == ["  unexpected: fc2.weight (5, 512)"]


def test_unknown_networks_are_told_the_known_ones(resnet18):
    line = refused(resnet18, "resnet19")
    assert line.startswith("There is no network 'resnet19' to carry over; choose one of ")
    for name in (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet101_v1c", "hrnetv2_w48"),
        *("mobilenetv2", "fcn_resnet101", "deeplabv3_resnet101", "ranet_released"),
    ):
        assert re.search(rf"\b{name}\b", line)
        assert name in NETWORKS


@pytest.mark.parametrize(
    ("model", "stride"),
    [("resnet18", 12), ("resnet18", 0), ("mobilenetv2", 64), ("hrnetv2_w48", 8)],
)
def test_output_strides_that_are_none(resnet18, model, stride):
    line = refused(resnet18, model, output_stride=stride)
    assert line.startswith(f"{model} cannot be built: ")
    assert str(stride) in line


def test_a_segmenter_s_output_stride_that_is_none():
    state = {"classifier.4.bias": np.zeros(3, np.float32)}
    line = refused(state, "fcn_resnet101", output_stride=7)
    assert "output_stride is 7" in line


def test_a_segmenter_needs_a_classifier(resnet18):
    advice, complaint = report(resnet18, "fcn_resnet101")
    assert advice.endswith(
        " to resnet18, in the names of torchvision; you asked for fcn_resnet101."
    )
    assert "no classifier (classifier.4.bias or fine_logit.bias), which" in complaint


@pytest.mark.parametrize("classes", [0, -3])
def test_classes_that_cannot_be(resnet18, classes):
    assert f"The number of classes is {classes}" in refused(resnet18, num_classes=classes)


# ------------------------------------------------------------------------- what may be missing


PARTS = {"by the file's names": r"layer4|^fc\.", "by our paths": r"params/layer4|stats/layer4|/fc/"}


@pytest.mark.parametrize("pattern", PARTS.values(), ids=PARTS)
def test_what_may_be_missing_has_its_initial_values(resnet18, pattern):
    state = without(resnet18, r"layer4|fc\.weight")
    assert len(report(state)) == 1 + 25 + 1  # 5 convolutions, 5 BatchNorms; the classifier
    ported = port_state_dict(state, "resnet18", allow_missing=pattern)
    arrays = flatten(ported.variables)
    assert set(ported.fresh) == {
        path for path in arrays if "layer4" in path or path == "params/fc/kernel"
    }
    np.testing.assert_array_equal(arrays["params/fc/bias"], state["fc.bias"])
    initial = {"scale": 1, "bias": 0, "mean": 0, "var": 1}
    for path in ported.fresh:
        leaf = path.rsplit("/")[-1]
        if leaf == "kernel":
            assert 0.005 < arrays[path].std() < 0.1
        else:
            np.testing.assert_array_equal(arrays[path], initial[leaf])
    np.testing.assert_array_equal(
        arrays["batch_stats/layer3_block1/bn2/var"], state["layer3.1.bn2.running_var"]
    )
    first, second = ported.summary().splitlines()
    assert first == (
        "resnet18: 76 arrays in the names of torchvision, output stride 32, 5 classes."
    )
    assert second.startswith("26 arrays have new initial values: those of fc, layer4_block0/bn1,")


def test_what_is_not_allowed_is_still_reported(resnet18):
    state = without(resnet18, r"layer4|layer1\.0\.bn1\.bias")
    _, line = report(state, allow_missing="layer4")
    assert line == "  missing: layer1.0.bn1.bias (64,) of the network"


def test_an_allowance_is_none_for_unexpected_or_mismatching_tensors(resnet18):
    state = resnet18 | {"layer4.9.conv1.weight": np.zeros(3, np.float32)}
    state["layer4.0.conv1.weight"] = np.zeros((4, 4), np.float32)
    lines = report(state, allow_missing=".*")[1:]
    assert len(lines) == 2
    assert any(line.startswith("  unexpected: layer4.9.conv1.weight (3,)") for line in lines)
    assert any(line.startswith("  mismatching: layer4.0.conv1.weight (4, 4)") for line in lines)


@pytest.mark.parametrize("pattern", ["layer4(", "*"])
def test_what_is_no_regular_expression(resnet18, pattern):
    line = refused(without(resnet18, "layer4"), allow_missing=pattern)
    assert line.startswith(f"{pattern!r} is not a regular expression: ")


def test_a_whole_file_needs_no_allowance(resnet18):
    ported = port_state_dict(resnet18, "resnet18", allow_missing="layer4")
    assert ported.fresh == ()
    assert ported.summary() == (
        "resnet18: 102 arrays in the names of torchvision, output stride 32, 5 classes."
    )


# ----------------------------------------------------------------------- a part of the tensors


@pytest.fixture
def segmenter(resnet18):
    """The tensors of a segmenter around a ResNet-18, with the names of segmentation toolboxes."""
    head = np.ones((3, 512, 1, 1), np.float32)
    backbone = without(resnet18, "fc")
    state = {f"backbone.{name}": value for name, value in backbone.items()}
    return state | {"decode_head.conv_seg.weight": head}


def test_a_network_within_another_is_pointed_to(segmenter):
    first, second, *_ = report(segmenter)
    assert first == (
        "The file has the network's names behind a prefix: give the prefix backbone. to take only"
        " the tensors whose names begin with it."
    )
    assert "121 tensors are unexpected" in second


def test_a_prefix_takes_a_network_out_of_another(segmenter, saved, resnet18):
    _, variables = port(saved(segmenter), "resnet18", prefix="backbone.")
    kernel = variables["params"]["layer3_block0"]["conv1"]["kernel"]
    expected = resnet18["layer3.0.conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    assert "fc" not in variables["params"]


def test_a_prefix_of_nothing_is_refused(segmenter, saved):
    with pytest.raises(UserError, match=r"holds no tensor whose name begins with 'head\.'; one"):
        port(saved(segmenter), "resnet18", prefix="head.")


# ------------------------------------------------------------------------------ unusable values


def test_what_float32_cannot_hold_is_listed(resnet18):
    changed = {
        "bn1.bias": np.full(64, 1e39),
        "layer1.0.bn1.bias": np.ones(64, np.int64),
        "fc.bias": np.ones(5, bool),
    }
    first, *lines = report(resnet18 | changed)
    assert first == "3 of the tensors are not weights in float32; save the network in float32."
    assert sorted(lines) == [
        "  unusable: bn1.bias holds numbers too large for float32",
        "  unusable: fc.bias of bool",
        "  unusable: layer1.0.bn1.bias of int64",
    ]


def test_nan_and_infinity_are_carried_over_and_said(resnet18):
    broken = {"bn1.bias": np.full(64, np.nan, np.float32), "fc.bias": np.full(5, np.inf)}
    ported = port_state_dict(resnet18 | broken, "resnet18")
    last = ported.summary().splitlines()[-1]
    assert last.startswith("2 arrays hold NaN or infinity: ")
    assert "params/bn1/bias" in last
    assert "params/fc/bias" in last


# ------------------------------------------------------------------------ layers of two names

LAYER = [*conv("key.conv", "embed"), Entry("key.count", None)]
TWICE = Naming("twice", (*LAYER, *copies(LAYER, "query", "key")))
SHAPES = {"params/embed/kernel": (1, 1, 2, 3), "params/embed/bias": (3,)}


def saved_twice(dtype):
    weight = np.arange(6).reshape(3, 2, 1, 1).astype(dtype)
    layer = {"conv.weight": weight, "conv.bias": np.ones(3, dtype), "count": np.array(7)}
    return {f"{name}.{leaf}": value for name in ("key", "query") for leaf, value in layer.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_layer_of_two_names_is_one_and_comes_back_as_two(dtype):
    state = saved_twice(dtype)
    assert all(map(TWICE.knows, state))
    arrays, kept, fresh = to_arrays(state, TWICE, SHAPES)
    assert (arrays.keys(), fresh) == (SHAPES.keys(), [])
    assert not any(name.startswith("query") for name in kept)
    assert_same_bits(to_tensors(arrays, TWICE, kept), state)
    trained = {path: array + 1 for path, array in arrays.items()}
    tensors = to_tensors(trained, TWICE)
    np.testing.assert_array_equal(tensors["query.conv.weight"], tensors["key.conv.weight"])
    assert (tensors["query.conv.bias"] == 2).all()


@pytest.mark.parametrize("left", ["key.conv.bias", None])
def test_what_does_not_repeat_is_unexpected(left):
    state = saved_twice(np.float32)
    if left is None:
        state["query.conv.bias"] = state["query.conv.bias"] + 1
    state.pop(left, None)
    with pytest.raises(Misfit) as caught:
        to_arrays(state, TWICE, SHAPES)
    (line,) = caught.value.lists["unexpected"]
    assert line == "query.conv.bias (3,), which does not repeat key.conv.bias"


# -------------------------------------------------------------------------------- whole values


def test_every_value_of_a_network_is_where_it_belongs(resnet18, saved):
    """By hand: the modules' names written out, kernels transposed, counts of batches left out."""
    _, variables = port(saved(resnet18), "resnet18", output_stride=8)
    arrays, expected = flatten(variables), {}
    leaves = {"running_mean": "mean", "running_var": "var", "bias": "bias", "weight": "scale"}
    for name, value in resnet18.items():
        *modules, leaf = name.split(".")
        if leaf == "num_batches_tracked":
            continue
        if modules[0].startswith("layer"):
            modules[:2] = [f"{modules[0]}_block{modules[1]}"]
        module = "/".join(modules)
        module = module.replace("downsample/0", "conv_shortcut")
        module = module.replace("downsample/1", "bn_shortcut")
        if value.ndim == 4:
            value, leaf = np.moveaxis(value, (0, 1), (3, 2)), "kernel"
        elif value.ndim == 2:
            value, leaf = value.T, "kernel"
        else:
            leaf = leaves[leaf]
        collection = "batch_stats" if leaf in ("mean", "var") else "params"
        expected[f"{collection}/{module}/{leaf}"] = value
    assert arrays.keys() == expected.keys()
    for path, value in expected.items():
        assert arrays[path].dtype == np.float32
        np.testing.assert_array_equal(arrays[path], value, err_msg=path)
