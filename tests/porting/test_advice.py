"""How a report begins if the weights are behind a prefix or belong to another network."""

import itertools

import numpy as np
import pytest

from helpers.coverage import report
from helpers.torch_networks import timm
from helpers.torch_networks import torchvision as tv
from ranet_jax.porting import Misfit, port_state_dict
from ranet_jax.porting.coverage import MOST_LINES

pytestmark = pytest.mark.slow


def arrays(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def behind(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


HEAD = {"decode_head.conv_seg.weight": np.ones((3, 64, 1, 1), np.float32)}


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.net.", "model.student.backbone."])
def test_a_forgotten_prefix_is_said_first(resnet18, prefix):
    first, second, *_ = report(behind(prefix, resnet18) | HEAD)
    assert first == (
        f"The file has the network's names behind a prefix: give the prefix {prefix} to take only"
        " the tensors whose names begin with it."
    )
    assert second.startswith("The weights do not fit the network: 100 of its arrays are missing,")


@pytest.mark.long
def test_a_prefix_is_said_even_if_some_tensor_is_missing_behind_it(resnet18):
    state = behind("backbone.", {k: v for k, v in resnet18.items() if k != "bn1.bias"}) | HEAD
    assert "give the prefix backbone. to take only" in report(state)[0]


def test_the_prefix_of_a_whole_segmenter_is_said_too():
    model = tv.models.segmentation.fcn_resnet101(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=False
    )
    state = behind("net.", arrays(model)) | {"loss.weight": np.ones(3, np.float32)}
    first, *_ = report(state, "fcn_resnet101")
    assert "give the prefix net. to take only" in first


FILES = {
    "resnet50": lambda: timm.create_model("resnet50", num_classes=3),
    "resnet50_v1c": lambda: timm.create_model("resnet50c", num_classes=3),
    "mobilenetv2": lambda: tv.models.mobilenet_v2(num_classes=3),
}
NAMINGS = {"resnet50_v1c": "timm"}


@pytest.mark.parametrize("network", FILES)
@pytest.mark.parametrize("prefix", ["", pytest.param("backbone.", marks=pytest.mark.long)])
def test_weights_of_another_network_are_recognised(network, prefix):
    state = behind(prefix, arrays(FILES[network]()))
    if prefix:
        state |= HEAD
    first, *_ = report(state)
    whose = NAMINGS.get(network, "torchvision")
    where = f", behind the prefix {prefix}" if prefix else ""
    assert first == (
        f"These weights belong to {network}, in the names of {whose}{where};"
        " you asked for resnet18."
    )


def test_what_fits_no_network_gets_no_advice(resnet18):
    first, *_ = report({name: value for name, value in resnet18.items() if name != "bn1.bias"})
    assert first.startswith("The weights do not fit the network: 1 of its arrays are missing")


def test_a_long_report_is_cut(resnet18):
    with pytest.raises(Misfit) as caught:
        port_state_dict(resnet18, "hrnetv2_w48")
    short, whole = str(caught.value).splitlines(), caught.value.report().splitlines()
    assert len(short) <= MOST_LINES
    assert len(whole) > 1500
    assert whole[:3] == short[:3]
    assert short[-1].endswith(" more")


@pytest.mark.parametrize(
    "lengths",
    [(0, 0, 1), (38, 0, 0), (39, 0, 0), (500, 1, 500), (10, 400, 13), (20, 20, 20), (13, 12, 13)],
)
def test_cut_reports_count_all(lengths):
    kinds = ("missing", "unexpected", "mismatching")
    lists = {
        kind: [f"tensor{i}" for i in range(length)]
        for kind, length in zip(kinds, lengths, strict=True)
    }
    misfit = Misfit("What does not fit.", lists, "What to do.")
    assert misfit.report().count("\n") == 1 + sum(lengths)
    first, second, *lines = str(misfit).splitlines()
    assert (first, second) == ("What to do.", "What does not fit.")
    assert 2 + len(lines) <= MOST_LINES
    told = dict.fromkeys(kinds, 0)
    for kind, group in itertools.groupby(lines, lambda line: line.split(":")[0].strip()):
        for line in group:
            text = line.split(": ")[1]
            told[kind] += 1 if text.startswith("tensor") else int(text.removesuffix(" more"))
    assert tuple(told.values()) == lengths
    if sum(lengths) <= MOST_LINES - 2:
        assert len(lines) == sum(lengths)
