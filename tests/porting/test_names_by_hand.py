"""Some names of tensors and their arrays, written out by hand, and what is done to the values."""

import numpy as np
import pytest

from helpers.named_networks import REPEATED, marks, named_shapes
from ranet_jax.porting.networks import (
    hrnet,
    mmsegmentation,
    mobilenet,
    mobilenet_v3,
    released_ranet,
    resnet,
    torchvision_segmenters,
)
from ranet_jax.porting.networks import segmentation_models as smp

pytestmark = pytest.mark.slow

SMP = {
    segmenter.name: segmenter.naming
    for segmenter in smp.SEGMENTERS
    if segmenter.name not in REPEATED
}
NAMING = {s.name.split("_")[0]: s.naming for s in mmsegmentation.SEGMENTERS}
SPOTS = {
    resnet.TORCHVISION: {
        "conv1.weight": "params/conv1/kernel",
        "bn1.running_mean": "batch_stats/bn1/mean",
        "layer2.0.downsample.0.weight": "params/layer2_block0/conv_shortcut/kernel",
        "layer2.0.downsample.1.running_var": "batch_stats/layer2_block0/bn_shortcut/var",
        "layer3.22.conv3.weight": "params/layer3_block22/conv3/kernel",
        "layer1.2.bn3.bias": "params/layer1_block2/bn3/bias",
        "layer1.2.bn3.num_batches_tracked": None,
        "fc.weight": "params/fc/kernel",
    },
    resnet.MMSEGMENTATION: {
        "stem.3.weight": "params/conv2/kernel",
        "stem.7.weight": "params/bn3/scale",
    },
    resnet.TIMM: {
        "conv1.6.weight": "params/conv3/kernel",
        "bn1.weight": "params/bn3/scale",
    },
    resnet.TIMM_D: {
        "conv1.3.weight": "params/conv2/kernel",
        "layer2.0.downsample.1.weight": "params/layer2_block0/conv_shortcut/kernel",
        "layer2.0.downsample.2.running_var": "batch_stats/layer2_block0/bn_shortcut/var",
    },
    mobilenet.TORCHVISION: {
        "features.0.0.weight": "params/stem/conv/kernel",
        "features.1.conv.0.0.weight": "params/block1/depthwise/conv/kernel",
        "features.1.conv.1.weight": "params/block1/project/conv/kernel",
        "features.1.conv.2.running_var": "batch_stats/block1/project/bn/var",
        "features.17.conv.0.0.weight": "params/block17/expand/conv/kernel",
        "features.17.conv.1.1.weight": "params/block17/depthwise/bn/scale",
        "features.17.conv.2.weight": "params/block17/project/conv/kernel",
        "features.17.conv.3.bias": "params/block17/project/bn/bias",
        "features.18.1.bias": "params/head/bn/bias",
        "classifier.1.bias": "params/classifier/bias",
    },
    mobilenet.FLAT: {
        "features.1.conv.3.weight": "params/block1/project/conv/kernel",
        "features.2.conv.6.weight": "params/block2/project/conv/kernel",
        "features.2.conv.4.running_mean": "batch_stats/block2/depthwise/bn/mean",
    },
    mobilenet_v3.TORCHVISION: {
        "features.0.0.weight": "params/stem/conv/kernel",
        "features.1.block.0.0.weight": "params/block1/depthwise/conv/kernel",
        "features.2.block.2.1.bias": "params/block2/project/bn/bias",
        "features.4.block.2.fc1.bias": "params/block4/excite/fc1/bias",
        "features.4.block.3.0.weight": "params/block4/project/conv/kernel",
        "features.15.block.2.fc2.weight": "params/block15/excite/fc2/kernel",
        "features.16.1.running_var": "batch_stats/head/bn/var",
        "classifier.0.weight": "params/hidden/kernel",
        "classifier.3.bias": "params/classifier/bias",
    },
    torchvision_segmenters.LRASPP: {
        "backbone.7.block.1.1.weight": "params/backbone/block7/depthwise/bn/scale",
        "classifier.cbr.0.weight": "params/context/reduce/conv/kernel",
        "classifier.cbr.1.running_mean": "batch_stats/context/reduce/bn/mean",
        "classifier.scale.1.weight": "params/context/scale/kernel",
        "classifier.low_classifier.weight": "params/skipped_logit/kernel",
        "classifier.high_classifier.bias": "params/fine_logit/bias",
    },
    torchvision_segmenters.MOBILE_DEEPLABV3: {
        "backbone.16.0.weight": "params/backbone/head/conv/kernel",
        "classifier.0.project.0.weight": "params/context/aspp/project/conv/kernel",
        "aux_classifier.0.weight": "params/auxiliary/reduce/conv/kernel",
    },
    hrnet.HRNET: {
        "conv2.weight": "params/conv2/kernel",
        "layer1.0.downsample.1.weight": "params/layer1_block0/bn_shortcut/scale",
        "transition1.1.0.0.weight": "params/transition1_branch1_down0/conv/kernel",
        "transition1.0.1.bias": "params/transition1_branch0/bn/bias",
        "stage2.0.branches.1.3.conv2.weight": "params/stage2_module0_branch1_block3/conv2/kernel",
        "stage3.2.fuse_layers.0.2.1.weight": "params/stage3_module2_fuse0_2/bn/scale",
        "stage4.1.fuse_layers.3.0.2.0.weight": "params/stage4_module1_fuse3_0_down2/conv/kernel",
        "incre_modules.3.0.downsample.0.weight": "params/incre3/conv_shortcut/kernel",
        "downsamp_modules.2.0.bias": "params/downsamp2/conv/bias",
        "final_layer.1.running_var": "batch_stats/final/bn/var",
    },
    torchvision_segmenters.FCN: {
        "backbone.layer4.2.conv2.weight": "params/backbone/layer4_block2/conv2/kernel",
        "classifier.0.weight": "params/context/reduce/conv/kernel",
        "classifier.1.running_mean": "batch_stats/context/reduce/bn/mean",
        "classifier.4.bias": "params/fine_logit/bias",
        "aux_classifier.4.weight": "params/auxiliary/logit/kernel",
    },
    torchvision_segmenters.DEEPLABV3: {
        "classifier.0.convs.0.0.weight": "params/context/aspp/branch0/conv/kernel",
        "classifier.0.convs.3.1.bias": "params/context/aspp/branch3/bn/bias",
        "classifier.0.convs.4.1.weight": "params/context/aspp/pool/conv/kernel",
        "classifier.0.convs.4.2.running_var": "batch_stats/context/aspp/pool/bn/var",
        "classifier.0.project.1.weight": "params/context/aspp/project/bn/scale",
        "classifier.1.weight": "params/context/fuse/conv/kernel",
        "classifier.4.weight": "params/fine_logit/kernel",
    },
    NAMING["pspnet"]: {
        "backbone.stem.3.weight": "params/backbone/conv2/kernel",
        "backbone.stem.7.running_var": "batch_stats/backbone/bn3/var",
        "backbone.layer3.0.downsample.0.weight": (
            "params/backbone/layer3_block0/conv_shortcut/kernel"
        ),
        "decode_head.psp_modules.2.1.conv.weight": "params/context/pool3/conv/kernel",
        "decode_head.bottleneck.bn.bias": "params/context/fuse/bn/bias",
        "decode_head.conv_seg.weight": "params/fine_logit/kernel",
        "auxiliary_head.convs.0.bn.running_mean": "batch_stats/auxiliary/reduce/bn/mean",
        "auxiliary_head.conv_seg.bias": "params/auxiliary/logit/bias",
    },
    NAMING["deeplabv3plus"]: {
        "decode_head.image_pool.1.conv.weight": "params/context/aspp/pool/conv/kernel",
        "decode_head.aspp_modules.0.conv.weight": "params/context/aspp/branch0/conv/kernel",
        "decode_head.aspp_modules.2.depthwise_conv.bn.weight": (
            "params/context/aspp/branch2/depthwise/bn/scale"
        ),
        "decode_head.bottleneck.conv.weight": "params/context/aspp/project/conv/kernel",
        "decode_head.c1_bottleneck.bn.bias": "params/context/shallow_reduce/bn/bias",
        "decode_head.sep_bottleneck.1.pointwise_conv.conv.weight": (
            "params/context/fuse/pointwise/conv/kernel"
        ),
    },
    NAMING["ann"]: {
        "decode_head.fusion.stages.0.key_project.conv.weight": (
            "params/context/fusion_key/conv/kernel"
        ),
        "decode_head.context.stages.0.key_project.bn.weight": "params/context/query_key/bn/scale",
        "decode_head.context.stages.0.query_project.bn.weight": None,
        "decode_head.context.stages.0.out_project.bias": "params/context/project/bias",
    },
    NAMING["psanet"]: {
        "decode_head.reduce.bn.weight": "params/context/collect_reduce/bn/scale",
        "decode_head.reduce_p.conv.weight": "params/context/distribute_reduce/conv/kernel",
        "decode_head.attention.1.weight": "params/context/collect_offsets/kernel",
        "decode_head.attention_p.0.bn.running_var": (
            "batch_stats/context/distribute_attention/bn/var"
        ),
        "decode_head.attention_p.1.weight": "params/context/distribute_offsets/kernel",
        "decode_head.proj.conv.weight": "params/context/project/conv/kernel",
        "decode_head.bottleneck.bn.bias": "params/context/fuse/bn/bias",
    },
    NAMING["ocrnet"]: {
        "decode_head.0.conv_seg.bias": "params/context/semantic_logit/bias",
        "decode_head.1.conv_seg.bias": "params/fine_logit/bias",
        "decode_head.1.object_context_block.key_project.1.bn.bias": (
            "params/context/region2/bn/bias"
        ),
    },
    SMP["smp_unet_resnet18"]: {
        "encoder.layer2.0.downsample.1.weight": "params/backbone/layer2_block0/bn_shortcut/scale",
        "decoder.blocks.0.conv1.0.weight": "params/context/step0_conv1/conv/kernel",
        "decoder.blocks.4.conv2.1.running_var": "batch_stats/context/step4_conv2/bn/var",
        "segmentation_head.0.weight": "params/fine_logit/kernel",
    },
    SMP["smp_fpn_mobilenetv2"]: {
        "encoder.features.18.0.weight": "params/backbone/head/conv/kernel",
        "decoder.p5.bias": "params/context/lateral0/bias",
        "decoder.p2.skip_conv.weight": "params/context/lateral3/kernel",
        "decoder.seg_blocks.0.block.2.block.0.weight": "params/context/smooth0_2/conv/kernel",
        "decoder.seg_blocks.3.block.0.block.1.weight": "params/context/smooth3_0/gn/scale",
    },
    SMP["smp_deeplabv3plus_resnet18"]: {
        "decoder.aspp.0.convs.0.0.weight": "params/context/aspp/branch0/conv/kernel",
        "decoder.aspp.0.convs.2.0.0.weight": "params/context/aspp/branch2/depthwise/kernel",
        "decoder.aspp.0.convs.2.0.1.weight": "params/context/aspp/branch2/pointwise/conv/kernel",
        "decoder.aspp.0.convs.2.1.bias": "params/context/aspp/branch2/pointwise/bn/bias",
        "decoder.aspp.0.convs.4.2.weight": "params/context/aspp/pool/bn/scale",
        "decoder.aspp.1.1.weight": "params/context/refine/pointwise/conv/kernel",
        "decoder.aspp.2.running_mean": "batch_stats/context/refine/pointwise/bn/mean",
        "decoder.block1.1.bias": "params/context/shallow_reduce/bn/bias",
        "decoder.block2.0.0.weight": "params/context/fuse/depthwise/kernel",
    },
    SMP["smp_pspnet_mobilenetv2"]: {
        "encoder.features.6.conv.3.bias": "params/backbone/block6/project/bn/bias",
        "encoder.features.7.conv.3.bias": None,
        "encoder.features.18.1.running_mean": None,
        "decoder.psp.blocks.0.pool.1.0.bias": "params/context/pool1/bias",
        "decoder.psp.blocks.3.pool.1.1.weight": "params/context/pool6/bn/scale",
        "decoder.conv.0.weight": "params/context/fuse/conv/kernel",
    },
    released_ranet.RELEASED: {
        "layer4.0.bn2.weight": "params/backbone/layer4_block0/bn2/scale",
        "dsn.0.bias": "params/context/dsn/conv/bias",
        "dsn_boundary_logit.weight": "params/context/dsn_boundary_logit/kernel",
        "rib.collect_conv.0.weight": "params/context/collect_conv/conv/kernel",
        "rib.collect_conv.1.weight": "params/context/collect_conv/bn/scale",
        "head_boundary_logit.bias": "params/fine_boundary_logit/bias",
        "head.0.weight": None,
        "rcb.conv_1x1_group.bias": None,
    },
}
NETWORK_OF_TABLE = {
    resnet.TORCHVISION: "resnet101",
    resnet.MMSEGMENTATION: "resnet101_v1c",
    resnet.TIMM: "resnet101_v1c",
    resnet.TIMM_D: "resnet50d",
    mobilenet.TORCHVISION: "mobilenetv2",
    mobilenet.FLAT: "mobilenetv2",
    mobilenet_v3.TORCHVISION: "mobilenetv3_large",
    hrnet.HRNET: "hrnetv2_w48",
    torchvision_segmenters.FCN: "fcn_resnet101",
    torchvision_segmenters.DEEPLABV3: "deeplabv3_resnet101",
    torchvision_segmenters.MOBILE_DEEPLABV3: "deeplabv3_mobilenet_v3_large",
    torchvision_segmenters.LRASPP: "lraspp_mobilenet_v3_large",
    NAMING["pspnet"]: "pspnet_r18-d8",
    NAMING["deeplabv3plus"]: "deeplabv3plus_r18-d8",
    NAMING["ann"]: "ann_r50-d8",
    NAMING["psanet"]: "psanet_r50-d8",
    NAMING["ocrnet"]: "ocrnet_r50-d8",
    **{naming: name for name, naming in SMP.items()},
    released_ranet.RELEASED: "ranet_released",
}


SPOT_LIST = [
    pytest.param(table, *spot, marks=marks(NETWORK_OF_TABLE[table]))
    for table, spots in SPOTS.items()
    for spot in spots.items()
]


@pytest.mark.parametrize(("table", "source", "target"), SPOT_LIST)
def test_names_and_paths_by_hand(table, source, target):
    arrays = named_shapes(NETWORK_OF_TABLE[table])
    entry = table.to_target(source, arrays.__contains__)
    assert entry.target == target
    if target is not None:
        assert target in arrays
        assert table.to_source(target).source == source


def test_layers_in_front_of_no_classifier_are_kept_and_not_used():
    """timm's `features_only` network has them, and so has the public one with its classifier."""
    source = "incre_modules.2.0.downsample.1.bias"
    assert (
        hrnet.HRNET.to_target(source, lambda path: True).target == "params/incre2/bn_shortcut/bias"
    )
    assert hrnet.HRNET.to_target(source, lambda path: False).target is None


@pytest.mark.parametrize("table", [resnet.TORCHVISION, hrnet.HRNET, released_ranet.RELEASED])
@pytest.mark.parametrize("source", ["layer1.0.conv1", "layerA.0.conv1.weight", "x", ""])
def test_names_that_are_nobody_s(table, source):
    assert not table.knows(source)
    assert table.to_target(source, lambda path: True) is None


def test_a_convolution_s_kernel_is_turned():
    weight = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    entry = resnet.TORCHVISION.to_target("conv1.weight", lambda path: True)
    kernel = entry.transform.forward(weight)
    assert kernel.shape == (4, 5, 3, 2)
    for o, i, h, w in np.ndindex(2, 3, 4, 5):
        assert kernel[h, w, i, o] == weight[o, i, h, w]
    np.testing.assert_array_equal(entry.transform.backward(kernel), weight)


def test_a_linear_layer_s_matrix_is_turned():
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    entry = resnet.TORCHVISION.to_target("fc.weight", lambda path: True)
    np.testing.assert_array_equal(entry.transform.forward(weight), [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(entry.transform.backward(weight.T), weight)


def test_vectors_stay_as_they_are():
    for name in ("bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "fc.bias"):
        entry = resnet.TORCHVISION.to_target(name, lambda path: True)
        np.testing.assert_array_equal(entry.transform.forward(np.array([-1.0, 2.0])), [-1.0, 2.0])


@pytest.mark.parametrize("name", ["rib.collect_conv.1", "bn2", "layer1.0.downsample.1", "dsn.1"])
def test_the_released_code_s_scales_are_absolute_and_an_epsilon_more(name):
    weight = np.array([-0.5, 0.0, 2.0], np.float32)
    entry = released_ranet.RELEASED.to_target(f"{name}.weight", lambda path: "dsn_dsn" not in path)
    scale = entry.transform.forward(weight)
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(scale, np.float32([0.5, 0.0, 2.0]) + np.float32(1e-5))
    np.testing.assert_allclose(entry.transform.backward(scale), [0.5, 0.0, 2.0], atol=1e-7)
