"""Segmenters of segmentation_models.pytorch: verified, ported back, used to predict and train."""

import jax
import numpy as np
import pytest
import torch

import ranet_jax
from helpers.port_command import assert_same_bits, command, read_back
from helpers.segmentation_models import segmenter
from ranet_jax.errors import UserError
from ranet_jax.porting import port_state_dict
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.networks import NETWORKS, find_network
from ranet_jax.porting.port import flatten
from ranet_jax.porting.verify import verify
from ranet_jax.training.initialization import initialize

pytestmark = pytest.mark.slow

NAMES = [name for name in NETWORKS if name.startswith("smp_")]


def arrays_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def verified(ported, tensors):
    """Shapes of the compared stages, all of which must equal PyTorch's."""
    with jax.numpy_dtype_promotion("standard"):  # Flax's GroupNorm promotes
        differences = verify(ported, tensors)
    assert all(difference.float32 < 1e-4 for difference in differences)
    assert all(difference.float64 < 1e-9 for difference in differences)
    return {difference.stage: difference.shape for difference in differences}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "smp_unet_resnet18" else pytest.mark.long) for n in NAMES],
)
def test_every_stage_is_the_package_s_and_every_tensor_comes_back(name):
    """With random weights and statistics: small relative differences, and the same bits."""
    model = segmenter(name)
    tensors = arrays_of(model)
    ported = port_state_dict(tensors, name)
    assert ported.fresh == ()
    shapes = verified(ported, tensors)
    assert {"stem", "fine"} < shapes.keys()
    height, width = ported.network.twin.size
    stride = {"unet": 1, "fpn": 4, "deeplabv3plus": 4}.get(name.split("_")[1], 8)
    assert shapes["fine"] == (1, height // stride, width // stride, 4)
    arrays = flatten(ported.variables)
    assert_same_bits(to_tensors(arrays, ported.naming, ported.kept), tensors)


@pytest.mark.long
@pytest.mark.parametrize("name", ["smp_deeplabv3_resnet34", "smp_deeplabv3_mobilenetv2"])
def test_deeplabv3_at_output_stride_16(name):
    tensors = arrays_of(segmenter(name, encoder_output_stride=16))
    shapes = verified(port_state_dict(tensors, name, output_stride=16), tensors)
    assert shapes["fine"] == (1, 6, 9, 4)


def test_a_sigmoid_s_one_class_is_told_of():
    name = "smp_pspnet_mobilenetv2"
    tensors = arrays_of(segmenter(name, classes=1))
    first, second = port_state_dict(tensors, name).summary().splitlines()
    assert first.endswith("output stride 8, 1 class.")
    assert second.startswith("A classifier of one class (made for a sigmoid) gives every pixel")
    (told, renewed) = port_state_dict(tensors, name, num_classes=2).summary().splitlines()
    assert told.endswith("output stride 8, 2 classes.")
    assert renewed == "2 arrays have new initial values: those of fine_logit."


def test_output_strides_that_the_package_has_not():
    twin = find_network("smp_fpn_resnet18").twin
    with pytest.raises(UserError, match="has no FPN of output stride 16 to compare with; leave"):
        twin.build(16, 4, lambda path: None)


def test_the_two_deeplabv3_are_not_taken_for_one_another():
    """torchvision's dilates the first block of a dilated stage like the blocks before it."""
    for name, dilated in (("deeplabv3_resnet50", False), ("smp_deeplabv3_resnet50", True)):
        network = find_network(name)
        users = {naming.users or naming.name for naming in network.namings}
        assert network.config.model.dilate_first_block == dilated
        assert ("torchvision" in users) != dilated
        assert ("segmentation_models.pytorch" in users) == dilated


def test_deeplabv3_in_the_names_of_before():
    tensors = arrays_of(segmenter("smp_deeplabv3_resnet18"))
    older = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1."}
    older |= {"decoder.bn.": "decoder.2."}
    renamed = {
        next((n + k.removeprefix(o) for o, n in older.items() if k.startswith(o)), k): tensor
        for k, tensor in tensors.items()
    }
    assert "decoder.2.running_var" in renamed
    new, old = (port_state_dict(state, "smp_deeplabv3_resnet18") for state in (tensors, renamed))
    assert old.naming.users == "segmentation_models.pytorch before version 0.5"
    assert_same_bits(flatten(old.variables), flatten(new.variables))
    assert_same_bits(to_tensors(flatten(old.variables), old.naming, old.kept), renamed)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_as_the_package_s_and_starts_a_training(name, tmp_path):
    """The weights go through the command and its files, there and back."""
    model, image = segmenter(name), np.random.default_rng(0).integers(0, 256, (64, 96, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = torch.from_numpy(((image / 255 - mean) / std).transpose(2, 0, 1)[None])
    head = model.segmentation_head[0]
    with torch.no_grad():  # each class has a mean of 0, and all together a deviation of 1
        scores = model.double()(normalised)
        means = scores.mean(dim=(0, 2, 3))
        deviation = (scores - means[:, None, None]).std()
        head.weight /= deviation
        head.bias.copy_((head.bias - means) / deviation)
        model.float()  # the weights are saved in float32
        expected = model.double()(normalised)[0].softmax(dim=0).permute(1, 2, 0).numpy()
    assert set(np.unique(expected.argmax(axis=-1))) == {0, 1, 2, 3}
    state, output, back = tmp_path / "w.pth", tmp_path / "out", tmp_path / "back.pth"
    torch.save(model.float().state_dict(), state)
    assert command(state, "--model", name, "--output", output) == 0
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    assert_same_bits(read_back(back), arrays_of(model))
    ported = ranet_jax.load(output)
    found = ported.predict(image.astype(np.uint8))
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-3)
    second, first = np.sort(expected, axis=-1)[..., -2:].transpose(2, 0, 1)
    clear = first - second > 2e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found.labels[clear], expected.argmax(axis=-1)[clear])

    config = ported.config.copy_and_resolve_references()
    with config.unlocked():
        config.model.init_from = str(output)
        config.model.init_allow_missing = "fine_logit"
    weights = ported.variables["params"]
    fresh = jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), dict(ported.variables))
    fresh["params"]["fine_logit"] = {"kernel": np.zeros((1, 1, 2, 5)), "bias": np.zeros(5)}
    variables, told = initialize(config.model, fresh)
    assert "2 from random values (fine_logit)" in told
    taken = variables["params"] | {"fine_logit": weights["fine_logit"]}
    jax.tree.map(np.testing.assert_array_equal, taken, dict(weights))
