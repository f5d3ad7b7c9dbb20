"""Networks of torchvision and timm there and back: every tensor comes back bit for bit."""

import pytest
import torch

from helpers.port_command import assert_same_bits, command, read_back
from helpers.torch_networks import randomised
from helpers.torch_networks import torchvision as tv

pytestmark = pytest.mark.slow

SEGMENTERS = {
    name: lambda name=name: getattr(tv.models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=True
    )
    for name in ("fcn_resnet50", "deeplabv3_resnet50")
}


@pytest.mark.parametrize("name", SEGMENTERS)
def test_back_bit_for_bit(name, tmp_path):
    state = randomised(SEGMENTERS[name]()).state_dict()
    torch.save(state, tmp_path / "w.pth")
    output, back = tmp_path / "out", tmp_path / "back.pth"
    assert command(tmp_path / "w.pth", "--model", name, "--output", output) == 0
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    assert_same_bits(read_back(back), state)
