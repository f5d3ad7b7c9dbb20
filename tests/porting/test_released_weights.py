"""The weights of the authors' released code: a file in its names, written out by hand."""

import functools

import jax
import numpy as np
import pytest
import torch

from helpers.torch_networks import apply, assert_close, channels_last, image, run, timm
from helpers.torch_networks import torchvision as tv
from ranet_jax.errors import UserError
from ranet_jax.porting import port_state_dict, read_state_dict, reverse, write_ported
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.networks import find_network
from ranet_jax.porting.networks.released_ranet import RELEASED
from ranet_jax.porting.port import flatten

pytestmark = pytest.mark.slow

assert tv  # timm needs it, and it must be imported with care
CLASSES = 3
EPSILON = np.float32(1e-5)
LAYERS = {f"layer{stage}": f"layer{stage}" for stage in range(1, 5)}


class StateDict:
    """The released network's tensors, one after the other, with random values."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.tensors = {}

    def conv(self, name, inputs, outputs, kernel, bias=False):
        spread = np.sqrt(2 / (inputs * kernel**2))
        shape = (outputs, inputs, kernel, kernel)
        weight = self.rng.standard_normal(shape, np.float32) * np.float32(spread)
        self.tensors[f"{name}.weight"] = weight
        if bias:
            self.tensors[f"{name}.bias"] = self.small(outputs)

    def abn(self, name, channels):
        """InPlace-ABN: weights of either sign, no count of batches."""
        weight = self.rng.uniform(0.3, 0.9, channels) * self.rng.choice([-1, 1], channels)
        self.tensors[f"{name}.weight"] = weight.astype(np.float32)
        self.tensors[f"{name}.bias"] = self.small(channels)
        self.tensors[f"{name}.running_mean"] = self.small(channels)
        self.tensors[f"{name}.running_var"] = self.rng.uniform(0.5, 1.5, channels).astype("f4")

    def small(self, channels):
        return (0.1 * self.rng.standard_normal(channels)).astype(np.float32)


def backbone(state):
    for number, (inputs, outputs) in enumerate([(3, 64), (64, 64), (64, 128)], 1):
        state.conv(f"conv{number}", inputs, outputs, 3)
        state.abn(f"bn{number}", outputs)
    inputs = 128
    for stage, blocks in enumerate((3, 4, 23, 3), 1):
        width = 64 * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            widths = [(inputs, width, 1), (width, width, 3), (width, 4 * width, 1)]
            for number, (before, after, kernel) in enumerate(widths, 1):
                state.conv(f"{name}.conv{number}", before, after, kernel)
                state.abn(f"{name}.bn{number}", after)
            if block == 0:
                state.conv(f"{name}.downsample.0", inputs, 4 * width, 1)
                state.abn(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width


def head(state):
    state.conv("dsn.0", 1024, 512, 3, bias=True)
    state.abn("dsn.1", 512)
    state.conv("dsn_semantic_logit", 512, CLASSES, 1, bias=True)
    state.conv("dsn_boundary_logit", 512, 2, 1, bias=True)
    for name, inputs in (
        *(("feats", 2048), ("query", 512), ("value", 512), ("collect", 512)),
        *(("interact", 512), ("distribute", 512), ("final", 1024)),
    ):
        state.conv(f"rib.{name}_conv.0", inputs, 512, 3)
        state.abn(f"rib.{name}_conv.1", 512)
    state.conv("head_semantic_logit", 512, CLASSES, 1, bias=True)
    state.conv("head_boundary_logit", 512, 2, 1, bias=True)


UNUSED = ("rcb.conv_1x1_group", "head.0", "head.1")


def unused(state):
    state.tensors["rcb.conv_1x1_group.weight"] = np.ones((1, 1, 1, 1), np.float32)
    state.tensors["rcb.conv_1x1_group.bias"] = np.zeros(1, np.float32)
    state.conv("head.0", 2048, 512, 3)
    state.abn("head.1", 512)


@pytest.fixture(scope="module")
def tensors():
    state = StateDict()
    for part in (backbone, head, unused):
        part(state)
    # The edge cases of |w| + epsilon: weights of 0 and of -0 have the same scale.
    state.tensors["rib.final_conv.1.weight"][:3] = [0.0, -0.0, -1e-30]
    return state.tensors


@pytest.fixture(scope="module")
def ported(tensors):
    return port_state_dict(dict(tensors), "ranet_released")


def test_every_tensor_has_its_place(tensors, ported):
    computed = [name for name in tensors if not name.startswith(UNUSED)]
    arrays = flatten(ported.variables)
    # Stems, blocks and shortcuts have 3 + 3 * 33 + 4 convolutions of one tensor and as many ABNs
    # of four. The head has eight more, where dsn's convolution has a bias, and four classifiers
    # of two.
    assert len(computed) == len(arrays) == 5 * (3 + 99 + 4 + 8) + 1 + 4 * 2
    total = sum(tensors[name].size for name in computed)
    assert sum(array.size for array in arrays.values()) == total
    assert ported.fresh == ()
    assert (ported.naming.name, ported.output_stride, ported.num_classes) == ("released", 8, 3)
    assert ported.summary() == (
        f"ranet_released: {len(arrays)} arrays in the names of released, output stride 8, 3"
        " classes."
    )
    assert set(UNUSED) < {name.rpartition(".")[0] for name in ported.kept}


def test_the_arrays_are_those_of_the_released_variant(ported):
    config = ported.network.config
    assert (config.model.variant, config.model.stem) == ("released", "deep")
    assert config.data.channel_order == "bgr"
    assert config.data.mean[::-1] == (104.00698793, 116.66876762, 122.67891434)
    assert config.data.std == (1.0, 1.0, 1.0)
    params = ported.variables["params"]
    assert params["fine_boundary_logit"]["kernel"].shape == (1, 1, 512, 2)
    assert params["context"]["final_conv"]["conv"]["kernel"].shape == (3, 3, 1024, 512)
    assert "group_kernel_deviation" not in str(jax.tree.structure(params))


def test_scales_are_absolute_weights_and_an_epsilon(tensors, ported):
    params = ported.variables["params"]
    for found, name in (
        (params["backbone"]["bn3"]["scale"], "bn3"),
        (params["backbone"]["layer3_block0"]["bn_shortcut"]["scale"], "layer3.0.downsample.1"),
        (params["context"]["dsn"]["bn"]["scale"], "dsn.1"),
        (params["context"]["final_conv"]["bn"]["scale"], "rib.final_conv.1"),
    ):
        weight = tensors[f"{name}.weight"]
        assert (weight < 0).sum() > 20
        np.testing.assert_array_equal(found, np.abs(weight) + EPSILON)
        assert found.min() >= EPSILON


@pytest.mark.long
def test_weights_that_lack_a_part_do_not_fit(tensors):
    state = {name: tensor for name, tensor in tensors.items() if name != "rib.query_conv.1.weight"}
    state["rib.value_conv.0.weight"] = np.zeros((512, 512, 1, 1), np.float32)
    with pytest.raises(UserError) as caught:
        port_state_dict(state, "ranet_released")
    assert str(caught.value).splitlines()[1:] == [
        "  missing: rib.query_conv.1.weight (512,) of the network",
        "  mismatching: rib.value_conv.0.weight (512, 512, 1, 1), but the network has"
        " (512, 512, 3, 3)",
    ]


# ----------------------------------------------------------------------------------- numbers

# Wide enough for features in which even a dilation of 64 reaches another pixel.
SIZE = (19, 551)


def timm_name(name):
    """timm's deep stem is one Sequential, except for its last BatchNorm."""
    stem = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4"}
    stem |= {"conv3": "conv1.6", "bn3": "bn1"}
    module, leaf = name.rsplit(".", 1)
    return f"{stem.get(module, module)}.{leaf}"


def positive(name, tensor):
    """The scale of BatchNorm that stands for this weight of InPlace-ABN."""
    is_scale = name.endswith("weight") and tensor.ndim == 1
    return torch.from_numpy(np.abs(tensor) + EPSILON if is_scale else tensor)


@pytest.fixture(scope="module")
def torch_backbone(tensors):
    model = timm.create_model("resnet101s", num_classes=0)
    parts = ("conv", "bn", "layer")
    state = {timm_name(n): positive(n, t) for n, t in tensors.items() if n.startswith(parts)}
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in result.missing_keys)
    model.maxpool.ceil_mode = True
    for layer, dilations in ((model.layer3, [2] * 23), (model.layer4, [16, 32, 64])):
        for block, dilation in zip(layer, dilations, strict=True):
            block.conv2.stride = (1, 1)
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
        layer[0].downsample[0].stride = (1, 1)
    return model.eval()


@pytest.fixture(scope="module")
def stages(torch_backbone):
    """Outputs of PyTorch's backbone, in float64."""
    return run(torch_backbone, image(SIZE), {"stem": "act1", **LAYERS}, torch.float64)


@pytest.mark.long
def test_the_backbone_computes_what_pytorch_s_does(ported, stages):
    variables = {collection: arrays["backbone"] for collection, arrays in ported.variables.items()}
    module = ported.module.backbone.clone(dtype=np.dtype("float64"))
    ours = apply(module, variables, image(SIZE), "float64")
    assert ours.keys() == stages.keys()
    # With ceil_mode 10 rows and 276 columns become 6 and 139, without it 5 and 138.
    assert stages["stem"].shape == (1, 10, 276, 128)
    assert stages["layer1"].shape == (1, 6, 139, 256)
    assert stages["layer4"].shape == (1, 3, 70, 2048)
    for stage, expected in stages.items():
        assert_close(ours[stage], expected, "float64", stage)


@pytest.mark.long
def test_the_coarse_scores_are_those_of_torch_s_functions(tensors, ported):
    """dsn, written out: convolution with bias, normalisation, two classifiers."""
    rng = np.random.default_rng(1)
    layer3, layer4 = rng.normal(size=(1, 3, 5, 1024)), rng.normal(size=(1, 3, 5, 2048))
    double = {
        name: torch.from_numpy(tensor.astype(np.float64))
        for name, tensor in tensors.items()
        if name.startswith("dsn")
    }
    functional = torch.nn.functional
    x = functional.conv2d(
        torch.from_numpy(layer3.transpose(0, 3, 1, 2).copy()),
        double["dsn.0.weight"],
        double["dsn.0.bias"],
        padding=1,
    )
    x = functional.batch_norm(
        x,
        double["dsn.1.running_mean"],
        double["dsn.1.running_var"],
        positive("dsn.1.weight", tensors["dsn.1.weight"]).double(),
        double["dsn.1.bias"],
        eps=1e-5,
    )
    module = ported.module.context.clone(dtype=np.dtype("float64"))
    variables = {collection: arrays["context"] for collection, arrays in ported.variables.items()}
    # With x64, counts of pixels are int64 and indices int32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        context = jax.jit(functools.partial(module.apply, train=False))(
            jax.tree.map(lambda array: array.astype(np.float64), variables),
            {"layer3": layer3, "layer4": layer4},
        )
        for name, scores in (("semantic", context.coarse), ("boundary", context.boundary)):
            weight, bias = (double[f"dsn_{name}_logit.{leaf}"] for leaf in ("weight", "bias"))
            expected = channels_last(functional.conv2d(x, weight, bias))
            assert_close(np.asarray(scores), expected, "float64", name)


# ------------------------------------------------------------------------------ there and back


@pytest.mark.long
def test_the_way_back_gives_the_file_bit_by_bit(tmp_path, tensors, ported):
    source = tmp_path / "source.npz"
    source.write_bytes(b"which is here only to be summed")
    write_ported(tmp_path / "ported", ported, source, None)
    output = tmp_path / "back.safetensors"
    assert reverse(tmp_path / "ported", output) == ("released", [])
    back = read_state_dict(output)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape), name
        assert back[name].tobytes() == tensor.tobytes(), name


def test_scales_that_no_weight_makes_are_not_written(ported):
    """Further training may move a scale below zero, where no absolute value of a weight lies."""
    arrays = flatten(ported.variables)
    path = "params/context/dsn/bn/scale"
    arrays = arrays | {path: np.full_like(arrays[path], -0.5)}
    with pytest.raises(UserError, match=rf"'released' no tensor dsn\.1\.weight .* {path}, as "):
        to_tensors(arrays, RELEASED)
    own = find_network("ranet_released").namings[-1]
    back = to_tensors(arrays, own)
    np.testing.assert_array_equal(back["context.dsn.bn.weight"], arrays[path])
