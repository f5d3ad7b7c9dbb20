"""Segmenters against mmsegmentation's own, from its own configs: scores, files, predictions."""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import unflatten_dict

import ranet_jax
from helpers.mmsegmentation import STAGES, published, run_heads, with_operators
from helpers.port_command import assert_same_bits, command, read_back
from helpers.torch_networks import apply, assert_close, image, randomised, run
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.models.context.psanet import PSAContext
from ranet_jax.porting import Misfit, port, port_state_dict
from ranet_jax.porting.coverage import to_arrays
from ranet_jax.porting.modules import flatten
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.networks import find_network, mmsegmentation, mmsegmentation_hrnet
from ranet_jax.porting.networks.mmsegmentation_heads import PSANET
from ranet_jax.porting.networks.pytorch import import_mmsegmentation
from ranet_jax.porting.verify import verify
from ranet_jax.training.initialization import initialize
from ranet_jax.training.recipe.own_data import CLASSIFIERS

pytestmark = pytest.mark.slow

NAMES = [segmenter.name for segmenter in mmsegmentation.SEGMENTERS]
HRNETS = [segmenter.name for segmenter in mmsegmentation_hrnet.SEGMENTERS]
HEADS = {"fine": "decode_head.conv_seg", "coarse": "auxiliary_head.conv_seg"}
CASCADE = {"fine": "decode_head.1.conv_seg", "coarse": "decode_head.0.conv_seg"}
F64 = torch.float64
CLASSES = ("road", "wall", "sky", "person")
PALETTE = [[128, 64, 128], [102, 102, 156], [70, 130, 180], [220, 20, 60]]


def arrays(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def assert_equal(model, ported, size, dtype="float64"):
    """Compare the scores of the network's own layers, on an image with odd sides."""
    images = image(size)
    places = CASCADE if hasattr(model, "num_stages") else HEADS
    theirs = run(run_heads(model), images, places, getattr(torch, dtype))
    parts = {part: getattr(ported.module, part) for part in ("backbone", "context", "auxiliary")}
    changed = {k: v.clone(dtype=np.dtype(dtype)) for k, v in parts.items() if v is not None}
    ours = apply(ported.module.clone(**changed), ported.variables, images, dtype)
    assert ours.keys() == theirs.keys()
    for stage, expected in theirs.items():
        assert_close(ours[stage], expected, dtype, stage)


def checkpoint(path, model, aligned=False, settings=""):
    """A file as version 1.x writes it, with further settings in the text of its config."""
    meta = {
        "dataset_meta": {"classes": CLASSES, "palette": PALETTE},
        "cfg": f"decode_head=dict(align_corners={aligned}, {settings})",
        "mmengine_version": "0.10.7",
    }
    torch.save({"meta": meta, "state_dict": model.state_dict(), "message_hub": {}}, path)
    return path


# ------------------------------------------------------------------------- one after the other


@pytest.fixture(scope="module")
def psp():
    return published("pspnet_r18-d8")


@pytest.mark.long
def test_pspnet_is_ported_verified_and_comes_back_bit_for_bit(psp, tmp_path, capsys):
    source = checkpoint(tmp_path / "w.pth", psp)
    output, back = tmp_path / "out", tmp_path / "back.pth"
    assert command(source, "--model", "pspnet_r18-d8", "--output", output, "--verify") == 0
    table = {line.split()[0]: line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    for stage in (*STAGES, "fine", "coarse"):
        single, double = map(float, table[stage])
        assert (single < 1e-5, double < 1e-9) == (True, True), stage
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    assert_same_bits(read_back(back), psp.state_dict())
    dataset = ranet_jax.load(output).dataset
    assert dataset.class_names == CLASSES
    assert dataset.palette == tuple(map(tuple, PALETTE))


@pytest.mark.long
@pytest.mark.parametrize("name", ["pspnet_r18-d8", "psanet_r50-d8"])
def test_a_ported_segmenter_segments_as_the_library_s(name, tmp_path):
    model = published(name)
    source, output = checkpoint(tmp_path / "w.pth", model), tmp_path / "out"
    assert command(source, "--model", name, "--output", output) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (65, 49, 3)).astype(np.uint8)
    scores = scores_of(model, pixels)
    first, second = np.sort(scores, axis=0)[:-3:-1]
    clear = first - second > 1e-4 * np.abs(scores).max()
    assert clear.mean() > 0.99
    labels = ranet_jax.load(output).predict(pixels).labels
    np.testing.assert_array_equal(labels[clear], scores.argmax(axis=0)[clear])


def scores_of(model, pixels):
    """The library's scores of an image, resized to the image as its heads say."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = ((pixels / 255 - mean) / std)[None]
    fine = run(run_heads(model), images, {"fine": HEADS["fine"]}, F64)["fine"]
    model.float()
    return torch.nn.functional.interpolate(
        torch.from_numpy(fine.transpose(0, 3, 1, 2).copy()),
        size=pixels.shape[:2],
        mode="bilinear",
        align_corners=model.align_corners,
    )[0].numpy()


@pytest.mark.long
def test_deeplabv3plus_has_the_features_of_its_published_config():
    """Its input is the library's own backbone, which the other test compares."""
    model = published("deeplabv3plus_r18-d8")
    ported = port_state_dict(arrays(model), "deeplabv3plus_r18-d8")
    counted = sum(array.size for array in jax.tree.leaves(ported.variables["params"]))
    assert counted == sum(parameter.numel() for parameter in model.parameters())
    places = {name: f"backbone.{name}" for name in ("layer1", "layer4")}
    theirs = run(model, image((65, 42)), places | {"features": "decode_head.sep_bottleneck"}, F64)
    stages = {name: theirs[name] for name in places}
    own = {kind: arrays["context"] for kind, arrays in ported.variables.items()}
    with jax.enable_x64(True):
        context = ported.module.context.clone(dtype=np.float64)
        cast = jax.tree.map(lambda x: np.asarray(x, np.float64), own)
        ours = np.asarray(jax.jit(context.apply)(cast, stages).features)
    assert_close(ours, theirs["features"], "float64")


def test_a_file_says_whether_corners_are_aligned(psp, tmp_path):
    """With a crop of 769 pixels, resizing within the network differs, but the weights do not."""
    source = checkpoint(tmp_path / "w.pth", psp, aligned=True)
    module, _ = port(source, "pspnet_r18-d8")
    assert module.context.align_corners
    assert not find_network("pspnet_r18-d8").config.model.align_corners


@pytest.mark.long
def test_training_starts_from_a_ported_segmenter(psp, tmp_path):
    source, output = checkpoint(tmp_path / "w.pth", psp), tmp_path / "out"
    assert command(source, "--model", "pspnet_r18-d8", "--output", output) == 0
    config = ranet_jax.load(output).config.copy_and_resolve_references()
    with config.unlocked():
        config.model.init_from = str(output)
        config.model.init_allow_missing = CLASSIFIERS
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(build_model(config, 5).init, jax.random.PRNGKey(0), images)
    fresh = jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), shapes)
    variables, told = initialize(config.model, fresh)
    assert "4 from random values (auxiliary/logit, fine_logit)" in told
    kernel = variables["params"]["context"]["pool3"]["conv"]["kernel"]
    weight = psp.decode_head.psp_modules[2][1].conv.weight.detach().numpy()
    np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))


# ---------------------------------------------------------------------------- all of them


@pytest.mark.long
@pytest.mark.parametrize("name", [*NAMES, *HRNETS])
def test_every_segmenter_has_the_scores_of_its_published_config(name):
    model = published(name)
    ported = port_state_dict(arrays(model), name)
    counted = sum(array.size for array in jax.tree.leaves(ported.variables["params"]))
    assert counted == sum(parameter.numel() for parameter in model.parameters())
    assert_equal(model, ported, (73, 98))


@pytest.mark.long
@pytest.mark.parametrize("name", [*(name for name in NAMES if "_r101" not in name), "ocrnet_hr18"])
def test_every_stage_is_verified_and_every_tensor_comes_back(name, tmp_path):
    model = published(name)
    ported = port_state_dict(arrays(model), name)
    differences = verify(ported, arrays(model))
    stages = mmsegmentation_hrnet.STAGES if name in HRNETS else {*STAGES, "fine", "coarse"}
    assert {difference.stage for difference in differences} == set(stages)
    assert all(difference.float32 < 1e-4 for difference in differences)
    assert all(difference.float64 < 1e-9 for difference in differences)
    source, output, back = checkpoint(tmp_path / "w.pth", model), tmp_path / "o", tmp_path / "b.pth"
    assert command(source, "--model", name, "--output", output) == 0
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    assert_same_bits(read_back(back), model.state_dict())


@pytest.mark.long
@pytest.mark.parametrize("name", ["pspnet_r18-d8", "deeplabv3plus_r18-d8", "ocrnet_hr18"])
def test_segmenters_of_aligned_corners(name, tmp_path):
    model = published(name, "512x1024" if name in HRNETS else "769x769")
    for path, layer in model.named_modules():
        # HRNet's own layers resize without aligned corners, whatever a config says of its heads.
        if hasattr(layer, "align_corners") and not path.startswith("backbone"):
            layer.align_corners = True
    module, _ = port(checkpoint(tmp_path / "w.pth", model, aligned=True), name)
    ported = port_state_dict(arrays(model), name, config_text="align_corners=True")
    assert ported.module == module
    assert_equal(model, ported, (65, 98))
    assert all(difference.float64 < 1e-9 for difference in verify(ported, arrays(model)))


@pytest.mark.long
@pytest.mark.parametrize("stride", [4, 16, 32])
@pytest.mark.parametrize("name", ["deeplabv3plus_r18-d8", "danet_r50-d8"])
def test_other_output_strides(name, stride):
    tensors = arrays(published(name))
    differences = verify(port_state_dict(tensors, name, stride), tensors)
    assert len(differences) == 7
    assert all(difference.float64 < 1e-9 for difference in differences)


# ------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    ("mask_size", "size"),
    [
        ((4, 5), (9, 6)),
        pytest.param((4, 7), (5, 7), marks=pytest.mark.long),
        pytest.param((11, 12), (6, 8), marks=pytest.mark.long),
        pytest.param((1, 1), (9, 4), marks=pytest.mark.long),
    ],
)
def test_psanet_s_head_has_the_features_of_the_library_s(mask_size, size):
    """The head has few channels, and masks smaller and larger than its maps."""
    head = psanet_head(mask_size)
    stage = np.random.default_rng(0).normal(size=(2, *size, 5))
    with warnings.catch_warnings(action="ignore"):  # about sizes for aligned corners
        theirs = run(head, stage, {"features": "bottleneck"}, F64)["features"]
    context = PSAContext("layer4", 6, mask_size, padded=True)
    inputs = {"layer4": jax.ShapeDtypeStruct(stage.shape, np.float32)}
    expected = flatten(jax.eval_shape(context.init, jax.random.key(0), inputs))
    shapes = {path: array.shape for path, array in expected.items()}
    tensors = {k: v.float().numpy() for k, v in head.state_dict().items() if "conv_seg" not in k}
    found, _, fresh = to_arrays(tensors, Naming("head", PSANET), shapes, [])
    assert not fresh
    with jax.enable_x64(True):
        variables = unflatten_dict({k: v.astype(np.float64) for k, v in found.items()}, sep="/")
        apply_exactly = jax.jit(context.clone(dtype=np.float64).apply)
        ours = np.asarray(apply_exactly(variables, {"layer4": jnp.asarray(stage)}).features)
    assert_close(ours, theirs, "float64")


def psanet_head(mask_size):
    torch.manual_seed(0)
    settings = {"in_channels": 5, "channels": 6, "num_classes": 3, "norm_cfg": {"type": "BN"}}
    with warnings.catch_warnings(action="ignore"):
        head = randomised(
            with_operators().build_head(settings | {"type": "PSAHead", "mask_size": mask_size})
        )
    head.forward = lambda stage, forward=head.forward: forward([stage])
    return head


@pytest.mark.long
@pytest.mark.parametrize(
    ("mask_size", "text"), [((66, 66), None), ((60, 45), "mask_size=(60, 45)")]
)
def test_psanets_of_other_masks(mask_size, text, tmp_path):
    """A square mask shows in the shapes of the tensors; any other must be in the file's config."""
    model = published("psanet_r50-d8", mask_size=mask_size)
    ported = port_state_dict(arrays(model), "psanet_r50-d8", config_text=text)
    assert ported.module.context.mask_size == mask_size
    assert_equal(model, ported, (97, 161))
    source, output, back = checkpoint(tmp_path / "w.pth", model), tmp_path / "o", tmp_path / "b.pth"
    if text is not None:
        complaint = (
            r"masks have 2700 entries in the file, which is not a square number; name a file"
        )
        with pytest.raises(UserError, match=complaint):
            port_state_dict(arrays(model), "psanet_r50-d8")
        assert command(source, "--model", "psanet_r50-d8", "--output", output) == 1
        assert not output.exists()
        source = checkpoint(tmp_path / "said.pth", model, settings=text)
    assert command(source, "--model", "psanet_r50-d8", "--output", output) == 0
    assert ranet_jax.load(output).config.model.mask_size == mask_size
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    assert_same_bits(read_back(back), model.state_dict())


# ------------------------------------------------------------------------------- what is refused


def test_verifying_without_a_compiled_operator_names_what_to_install(monkeypatch):
    import_mmsegmentation()
    monkeypatch.setattr(sys.modules["mmcv._ext"], mmsegmentation.MASK_OPERATOR, None)
    with pytest.raises(UserError, match=r"^mmcv-lite has no psamask_forward, .* install mmcv in"):
        import_mmsegmentation(mmsegmentation.MASK_OPERATOR)


@pytest.mark.long
def test_what_one_layer_is_saved_as_twice_must_be_the_same(tmp_path):
    """The asymmetric network's queries and keys are one layer, which trained models save twice."""
    tensors = arrays(published("ann_r50-d8"))
    twice = "decode_head.context.stages.0.{}_project.conv.weight"
    ported = port_state_dict(tensors, "ann_r50-d8")
    assert not set(ported.kept) & {twice.format("query"), twice.format("key")}
    tensors[twice.format("query")] = tensors[twice.format("query")] + 1
    with pytest.raises(Misfit, match=r"query_project\.conv\.weight .*which does not repeat"):
        port_state_dict(tensors, "ann_r50-d8")


def test_weights_of_another_segmenter_are_named(psp):
    with pytest.raises(
        Misfit, match=r"^These weights belong to pspnet_r18-d8, in the names of mmseg"
    ):
        port_state_dict(arrays(psp), "fcn_r18-d8")


def test_verifying_without_the_library_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    with pytest.raises(UserError, match="install it with `pip install mmsegmentation 'mmcv-lite"):
        import_mmsegmentation()
