"""Every file of configs/: its fields, the size of its network and the commands it names."""

import ast
import math
import pathlib
import shlex

import flax.traverse_util
import jax
import pytest

from ranet_jax.cli.main import build_parser
from ranet_jax.config import check_config, default_config
from ranet_jax.config_files import load_config, override
from ranet_jax.inspection import parameter_shapes

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("[!_]*.py"))

# torchvision's 44,549,160 less its classifier of 1,000 classes.
RESNET101 = 44_549_160 - 1000 * (2048 + 1)
MOBILENETV2 = 3_504_872 - 1000 * (1280 + 1)


def conv_bn(kernel_size, inputs, outputs):
    """Parameters of a convolution without bias, and of the scale and bias of its BatchNorm."""
    return kernel_size**2 * inputs * outputs + 2 * outputs


def resnet18(width, stages):
    count = conv_bn(7, 3, width) + 4 * conv_bn(3, width, width)
    for stage in range(1, stages):
        before, after = width * 2 ** (stage - 1), width * 2**stage
        count += (
            conv_bn(3, before, after) + conv_bn(1, before, after) + 3 * conv_bn(3, after, after)
        )
    return count


def aspp(inputs, width):
    """A 1 x 1 convolution, three of 3 x 3, one of the mean, and the one that fuses them."""
    branches = 2 * conv_bn(1, inputs, width) + 3 * conv_bn(3, inputs, width)
    return branches + conv_bn(1, 5 * width, width)


def separable(inputs, outputs):
    """A depthwise 3 x 3 convolution with BatchNorm, and a 1 x 1 one."""
    return 9 * inputs + 2 * inputs + conv_bn(1, inputs, outputs)


def deeplabv3plus(inputs, shallow, width, classes):
    """ASPP with separable convolutions, the reduced shallow stage, and the two that fuse both."""
    branches = 2 * conv_bn(1, inputs, width) + 3 * separable(inputs, width)
    details = 3 * shallow // 16
    fusion = separable(width + details, width) + separable(width, width)
    count = branches + conv_bn(1, 5 * width, width) + conv_bn(1, shallow, details) + fusion
    return count + classes * (width + 1)


def ranet(inputs, width, classes, kernel_size=1, reduction=None):
    """Reduction, the heads and W^g of the RCB, projection, fusion and the fine classifier."""
    heads = classes * (width + 1) + 2 * (width + 1) + kernel_size**2
    reduction = conv_bn(3, inputs, width) if reduction is None else reduction
    blocks = reduction + conv_bn(1, width, width) + conv_bn(3, 2 * width, width)
    return blocks + heads + classes * (width + 1)


def unet(pyramid, width, classes):
    """Two convolutions per step up, each step with half the channels, and a 3 x 3 classifier."""
    *others, inputs = pyramid
    count = 0
    for step, skipped in enumerate((*reversed(others), 0)):
        outputs = width // 2**step
        count += conv_bn(3, inputs + skipped, outputs) + conv_bn(3, outputs, outputs)
        inputs = outputs
    return count + classes * (9 * inputs + 1)


def deep_stem():
    """What a deep stem adds to a 7 x 7 one: its layers, and 128 channels into layer1, not 64."""
    stem = conv_bn(3, 3, 64) + conv_bn(3, 64, 64) + conv_bn(3, 64, 128)
    return stem - conv_bn(7, 3, 64) + 64 * 64 + 64 * 256


def released(width, classes):
    """The stem of the coarse scores with a bias, seven convolutions, two pairs of heads."""
    blocks = (
        conv_bn(3, 1024, width) + width + conv_bn(3, 2048, width) + conv_bn(3, 2 * width, width)
    )
    return blocks + 5 * conv_bn(3, width, width) + 2 * (classes + 2) * (width + 1)


def hrnet_head(classes):
    """Bottlenecks that widen the branches, convolutions that join them, and the classifier."""
    count = 0
    for branch, width in enumerate((32, 64, 128, 256)):
        inputs, outputs = 48 * 2**branch, 4 * width
        count += conv_bn(1, inputs, width) + conv_bn(3, width, width) + conv_bn(1, width, outputs)
        count += conv_bn(1, inputs, outputs)
        if branch < 3:
            count += conv_bn(3, outputs, 2 * outputs) + 2 * outputs
    return count + conv_bn(1, 1024, 2048) + 2048 + classes * (2048 + 1)


# timm's 77,469,864 less the layers that only classify images.
HRNETV2_W48 = 77_469_864 - hrnet_head(1000)
# Categories and parameters.
TABLE = {
    "camvid": (11, RESNET101 + ranet(2048, 512, 11)),
    "camvid_cpu": (11, resnet18(32, 4) + ranet(256, 128, 11)),
    "camvid_mobilenetv2": (11, MOBILENETV2 + ranet(320, 128, 11)),
    "camvid_resnet18_pretrained": (11, resnet18(64, 3) + ranet(256, 128, 11)),
    "deeplabv3plus_mobilenetv2_camvid_2600": (
        11,
        MOBILENETV2 + deeplabv3plus(320, 24, 128, 11),
    ),
    "own_data": (11, resnet18(64, 3) + ranet(256, 128, 11)),
    "ranet_hrnetv2_w48_aspp_cityscapes_769_40k": (
        19,
        HRNETV2_W48 + ranet(720, 512, 19, reduction=aspp(720, 512)),
    ),
    "ranet_resnet101_cityscapes_769_40k": (19, RESNET101 + ranet(2048, 512, 19)),
    "ranet_resnet101_coco_stuff_520_60k": (171, RESNET101 + ranet(2048, 512, 171)),
    "ranet_resnet101_pascal_520_60k": (59, RESNET101 + ranet(2048, 512, 59)),
    "ranet_resnet18_camvid_200": (11, resnet18(64, 3) + ranet(256, 128, 11)),
    "ranet_resnet18_camvid_2k": (11, resnet18(64, 3) + ranet(256, 128, 11)),
    "ranet_resnet18_camvid_full_700": (11, resnet18(64, 3) + ranet(256, 128, 11)),
    "ranet_resnet18_camvid_trainval_3k": (11, resnet18(64, 3) + ranet(256, 128, 11)),
    "released_resnet101_cityscapes_769_40k": (19, RESNET101 + deep_stem() + released(512, 19)),
    "shapes": (7, resnet18(24, 2) + ranet(48, 64, 7)),
    "unet_resnet18_camvid_1500": (11, resnet18(64, 3) + unet((64, 64, 128, 256), 128, 11)),
}
each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_every_config_has_a_row():
    assert [path.stem for path in CONFIGS] == sorted(TABLE)


@each_config
def test_it_has_the_fields_of_the_default_and_no_others(path):
    found, expected = (
        flax.traverse_util.flatten_dict(config.to_dict()).keys()
        for config in (load_config(str(path)), default_config())
    )
    assert found == expected


@each_config
def test_its_values_are_in_range(path):
    check_config(load_config(str(path)))


@pytest.mark.slow
@each_config
def test_its_network_has_as_many_parameters_as_counted_by_hand(path):
    config = load_config(str(path))
    config.data.crop_size = (33, 33)  # no parameter depends on it
    classes, expected = TABLE[path.stem]
    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm promotes
        shapes = parameter_shapes(config, classes)
    assert sum(map(math.prod, shapes.values())) == expected


@each_config
def test_its_docstring_holds_commands_that_parse(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    lines = map(str.strip, docstring.replace("\\\n", "").splitlines())
    commands = [line for line in lines if line.startswith("ranet ")]
    experiment = "--data mine --data-dir my_tfds --minutes 30"
    if path.stem != "own_data":
        experiment = f"--config configs/{path.name}"
    train = f"ranet train {experiment} --workdir runs/"
    (workdir,) = (line.removeprefix(train) for line in commands if line.startswith(train))
    for command in commands:
        arguments, overrides = build_parser().parse_known_args(shlex.split(command)[1:])
        override(load_config(str(path)), overrides)
        if arguments.command in ("evaluate", "predict"):
            assert arguments.checkpoint == f"runs/{workdir}"
        if arguments.command == "prepare":
            assert arguments.name == load_config(str(path)).data.name
