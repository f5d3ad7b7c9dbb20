"""Networks of torchvision and timm, verified, and ported there and back bit for bit."""

import jax
import pytest
import torch

from helpers.port_command import assert_same_bits, command, read_back
from helpers.torch_networks import randomised, timm
from helpers.torch_networks import torchvision as tv
from ranet_jax.porting import port_state_dict
from ranet_jax.porting.verify import verify

pytestmark = pytest.mark.slow

NETWORKS = {
    "mobilenetv3_large": lambda: tv.models.mobilenet_v3_large(num_classes=4),
    "lraspp_mobilenet_v3_large": lambda: tv.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    ),
    "deeplabv3_mobilenet_v3_large": lambda: tv.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, aux_loss=True
    ),
    # From timm: ResNet-D, and a network with neither a classifier nor the last stage.
    "resnet50d": lambda: timm.create_model("resnet50d", num_classes=4),
    "resnet18": lambda: timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3)),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "resnet18" else pytest.mark.long) for name in NETWORKS],
)
def test_back_bit_for_bit(name, tmp_path):
    state = randomised(NETWORKS[name]()).state_dict()
    torch.save(state, tmp_path / "w.pth")
    output, back = tmp_path / "out", tmp_path / "back.pth"
    assert command(tmp_path / "w.pth", "--model", name, "--output", output) == 0
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    assert_same_bits(read_back(back), state)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("mobilenetv3_large", 8),
        ("lraspp_mobilenet_v3_large", 16),
        ("mobilenetv3_large", 32),
        ("deeplabv3_mobilenet_v3_large", 16),
    ],
)
def test_every_stage_is_that_of_torchvision(name, stride):
    """With random weights and statistics, on an image with an odd side."""
    tensors = randomised(NETWORKS[name]()).state_dict()
    tensors = {key: tensor.numpy() for key, tensor in tensors.items()}
    ported = port_state_dict(tensors, name, output_stride=stride)
    differences = verify(ported, tensors)
    stages = {"stem", "stage3_first", *(f"stage{stage}" for stage in range(1, 7)), "head"}
    scores = {"l": {"fine"}, "d": {"fine", "coarse"}, "m": {"logits"}}[name[0]]
    assert {difference.stage for difference in differences} == stages | scores
    assert all(difference.float32 < 1e-4 for difference in differences)
    assert all(difference.float64 < 1e-9 for difference in differences)
    (last,) = (difference for difference in differences if difference.stage == "head")
    height, width = ported.network.twin.size
    assert last.shape == (1, -(-height // stride), -(-width // stride), 960)


@pytest.mark.long
def test_resnet_d_is_that_of_timm():
    """Shortcuts average pixels: fewer at odd ends of strides, and zeros beyond if dilated."""
    model = randomised(NETWORKS["resnet50d"]())
    tensors = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    ported = port_state_dict(tensors, "resnet50d", output_stride=8)
    counted = sum(array.size for array in jax.tree.leaves(ported.variables["params"]))
    assert counted == sum(parameter.numel() for parameter in model.parameters())
    differences = verify(ported, tensors)
    assert len(differences) == 6
    assert all(difference.float64 < 1e-9 for difference in differences)


def test_features_without_the_last_stage_are_ported_as_they_are():
    tensors = randomised(NETWORKS["resnet18"]()).state_dict()
    assert not any(name.startswith("layer4") for name in tensors)
    tensors = {key: tensor.numpy() for key, tensor in tensors.items()}
    ported = port_state_dict(tensors, "resnet18", output_stride=8)
    assert (ported.module.stages, ported.num_classes, ported.fresh) == (3, None, ())
    assert ported.summary().endswith("output stride 8, no classifier, up to layer3.")
    differences = verify(ported, tensors)
    assert [d.stage for d in differences] == ["stem", "layer1", "layer2", "layer3"]
    assert all(difference.float64 < 1e-9 for difference in differences)
