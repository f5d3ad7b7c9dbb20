"""The namings of the networks that can be carried over."""

from ranet_jax.porting.name_patterns import (
    ABN_SCALE,
    SAME,
    Entry,
    Naming,
    Transform,
    conv,
    conv_norm,
    linear,
    norm,
    within,
)


def _residual(scale: Transform = SAME) -> list[Entry]:
    return [
        *conv("conv{n}", "conv{n}"),
        *norm("bn{n}", "bn{n}", scale),
        *conv("downsample.0", "conv_shortcut"),
        *norm("downsample.1", "bn_shortcut", scale),
    ]


def _stages(scale: Transform = SAME) -> list[Entry]:
    return within(_residual(scale), "layer{s}.{b}.", "layer{s}_block{b}")


def _numbered_stem(scale: Transform = SAME) -> list[Entry]:
    """conv1/bn1 of a stem of one convolution; conv1/bn1, conv2/bn2, ... of a deep one."""
    return [*conv("conv{n}", "conv{n}"), *norm("bn{n}", "bn{n}", scale)]


# torchvision, and for deep stems the toolboxes of CSAIL and of the paper's authors.
RESNET = Naming("torchvision", (*_numbered_stem(), *_stages(), *linear("fc", "fc")))

# A deep stem as one Sequential of convolution, BatchNorm and ReLU, three times.
RESNET_MMSEG = Naming(
    "mmsegmentation",
    (
        *conv("stem.0", "conv1"),
        *norm("stem.1", "bn1"),
        *conv("stem.3", "conv2"),
        *norm("stem.4", "bn2"),
        *conv("stem.6", "conv3"),
        *norm("stem.7", "bn3"),
        *_stages(),
        *linear("fc", "fc"),
    ),
)
# The same Sequential under the name conv1, its last BatchNorm outside.
RESNET_TIMM = Naming(
    "timm",
    (
        *conv("conv1.0", "conv1"),
        *norm("conv1.1", "bn1"),
        *conv("conv1.3", "conv2"),
        *norm("conv1.4", "bn2"),
        *conv("conv1.6", "conv3"),
        *norm("bn1", "bn3"),
        *_stages(),
        *linear("fc", "fc"),
    ),
)

MOBILENETV2 = Naming(
    "torchvision",
    (
        *conv_norm("features.0", "stem"),
        # The first block expands nothing.
        *conv_norm("features.1.conv.0", "block1/depthwise"),
        *conv("features.1.conv.1", "block1/project/conv"),
        *norm("features.1.conv.2", "block1/project/bn"),
        *conv_norm("features.18", "head"),
        *conv_norm("features.{b}.conv.0", "block{b}/expand"),
        *conv_norm("features.{b}.conv.1", "block{b}/depthwise"),
        *conv("features.{b}.conv.2", "block{b}/project/conv"),
        *norm("features.{b}.conv.3", "block{b}/project/bn"),
        *linear("classifier.1", "classifier"),
    ),
)

# Blocks as one Sequential of convolutions, BatchNorms and activations, before torchvision 0.3 and
# in the checkpoints of that time.
MOBILENETV2_FLAT = Naming(
    "flat",
    (
        *conv_norm("features.0", "stem"),
        *conv("features.1.conv.0", "block1/depthwise/conv"),
        *norm("features.1.conv.1", "block1/depthwise/bn"),
        *conv("features.1.conv.3", "block1/project/conv"),
        *norm("features.1.conv.4", "block1/project/bn"),
        *conv_norm("features.18", "head"),
        *conv("features.{b}.conv.0", "block{b}/expand/conv"),
        *norm("features.{b}.conv.1", "block{b}/expand/bn"),
        *conv("features.{b}.conv.3", "block{b}/depthwise/conv"),
        *norm("features.{b}.conv.4", "block{b}/depthwise/bn"),
        *conv("features.{b}.conv.6", "block{b}/project/conv"),
        *norm("features.{b}.conv.7", "block{b}/project/bn"),
        *linear("classifier.1", "classifier"),
    ),
)

# The public repository's, and timm's.
HRNET = Naming(
    "HRNet",
    (
        *_numbered_stem(),
        *_stages(),
        *within(
            _residual(),
            "stage{s}.{m}.branches.{b}.{k}.",
            "stage{s}_module{m}_branch{b}_block{k}",
        ),
        *conv_norm("transition{t}.{b}", "transition{t}_branch{b}"),
        *conv_norm("transition{t}.{b}.{k}", "transition{t}_branch{b}_down{k}"),
        *conv_norm("stage{s}.{m}.fuse_layers.{i}.{j}", "stage{s}_module{m}_fuse{i}_{j}"),
        *conv_norm(
            "stage{s}.{m}.fuse_layers.{i}.{j}.{k}", "stage{s}_module{m}_fuse{i}_{j}_down{k}"
        ),
        *within(_residual(), "incre_modules.{i}.0.", "incre{i}"),
        *conv_norm("downsamp_modules.{i}", "downsamp{i}"),
        *conv_norm("final_layer", "final"),
        *linear("classifier", "classifier"),
    ),
)

_AUXILIARY = [
    *conv("aux_classifier.0", "auxiliary/reduce/conv"),
    *norm("aux_classifier.1", "auxiliary/reduce/bn"),
    *conv("aux_classifier.4", "auxiliary/logit"),
]
FCN = Naming(
    "torchvision",
    (
        *within(RESNET.entries, "backbone.", "backbone"),
        *conv("classifier.0", "context/reduce/conv"),
        *norm("classifier.1", "context/reduce/bn"),
        *conv("classifier.4", "fine_logit"),
        *_AUXILIARY,
    ),
)
DEEPLABV3 = Naming(
    "torchvision",
    (
        *within(RESNET.entries, "backbone.", "backbone"),
        *conv("classifier.0.convs.4.1", "context/aspp/pool/conv"),
        *norm("classifier.0.convs.4.2", "context/aspp/pool/bn"),
        *conv_norm("classifier.0.convs.{i}", "context/aspp/branch{i}"),
        *conv_norm("classifier.0.project", "context/aspp/project"),
        *conv("classifier.1", "context/fuse/conv"),
        *norm("classifier.2", "context/fuse/bn"),
        *conv("classifier.4", "fine_logit"),
        *_AUXILIARY,
    ),
)

# All its BatchNorms are InPlace-ABN's. It creates a head and a group convolution that no output
# depends on.
RELEASED = Naming(
    "released",
    (
        *within([*_numbered_stem(ABN_SCALE), *_stages(ABN_SCALE)], "", "backbone"),
        *conv_norm("dsn", "context/dsn", ABN_SCALE),
        *conv("dsn_{name}_logit", "context/dsn_{name}_logit"),
        *conv_norm("rib.{name}_conv", "context/{name}_conv", ABN_SCALE),
        *conv("head_semantic_logit", "fine_logit"),
        *conv("head_boundary_logit", "fine_boundary_logit"),
        Entry("rcb.conv_1x1_group.weight", None),
        Entry("rcb.conv_1x1_group.bias", None),
        Entry("head.0.weight", None),
        Entry("head.1.{name}", None),
    ),
)


def segmenter_naming(backbone: Naming) -> Naming:
    """Names of this package's own segmenters: the backbone's, and the modules' with dots."""
    return Naming(
        "ranet_jax",
        (
            *within(backbone.entries, "backbone.", "backbone"),
            *conv("context.{name}.conv", "context/{name}/conv"),
            *norm("context.{name}.bn", "context/{name}/bn"),
            *conv("context.aspp.{name}.conv", "context/aspp/{name}/conv"),
            *norm("context.aspp.{name}.bn", "context/aspp/{name}/bn"),
            *conv("context.{name}", "context/{name}"),
            Entry("context.{name}", "params/context/{name}"),
            *conv("context.rcb.{name}", "context/rcb/{name}"),
            Entry(
                "context.rcb.group_kernel_deviation", "params/context/rcb/group_kernel_deviation"
            ),
            *conv("auxiliary.reduce.conv", "auxiliary/reduce/conv"),
            *norm("auxiliary.reduce.bn", "auxiliary/reduce/bn"),
            *conv("auxiliary.logit", "auxiliary/logit"),
            *conv("{name}", "{name}"),
        ),
    )
