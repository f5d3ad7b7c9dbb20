"""Names of mmsegmentation's decoding heads; versions 0.x and 1.x have the same names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranet_jax.porting.name_patterns import (
    KERNEL,
    Entry,
    Naming,
    Transform,
    conv,
    copies,
    norm,
    within,
)
from ranet_jax.porting.networks import resnet

RATES = (12, 24, 36)
# The parts that ASPP's last convolution fuses: a 1 x 1 convolution, one convolution of each rate,
# and the mean of the image, which comes last here and first in mmsegmentation.
PARTS = 2 + len(RATES)


def _mean_last(weight: np.ndarray) -> np.ndarray:
    kernel = KERNEL.forward(weight)
    return np.roll(kernel, -(kernel.shape[2] // PARTS), axis=2)


def _mean_first(kernel: np.ndarray) -> np.ndarray:
    return KERNEL.backward(np.roll(kernel, kernel.shape[2] // PARTS, axis=2))


MEAN_LAST = Transform(_mean_last, _mean_first)


def conv_module(source: str, target: str, kernel: Transform = KERNEL) -> list[Entry]:
    """`layers.ConvBN`: a `ConvModule` of mmcv."""
    return [
        Entry(f"{source}.conv.weight", f"params/{target}/conv/kernel", kernel),
        *norm(f"{source}.bn", f"{target}/bn"),
    ]


def separable(source: str, target: str) -> list[Entry]:
    """`layers.SeparableConvBN`."""
    return [
        *conv_module(f"{source}.depthwise_conv", f"{target}/depthwise"),
        *conv_module(f"{source}.pointwise_conv", f"{target}/pointwise"),
    ]


def attention(source: str, target: str) -> list[Entry]:
    """Embeddings without BatchNorm in an asymmetric block, and their projection back."""
    return [
        *conv(f"{source}.value_project", f"{target}value"),
        *conv(f"{source}.out_project", f"{target}project"),
    ]


FCN = (
    *conv_module("convs.0", "reduce"),
    *conv_module("convs.1", "refine"),
    *conv_module("conv_cat", "fuse"),
)
PSP = (
    *(
        e
        for i, bins in enumerate((1, 2, 3, 6))
        for e in conv_module(f"psp_modules.{i}.1", f"pool{bins}")
    ),
    *conv_module("bottleneck", "fuse"),
)
ASPP = (
    *conv_module("image_pool.1", "aspp/pool"),
    *conv_module("aspp_modules.{i}", "aspp/branch{i}"),
    *conv_module("bottleneck", "aspp/project", MEAN_LAST),
)
DEEPLABV3PLUS = (
    *ASPP,
    *separable("aspp_modules.{i}", "aspp/branch{i}"),
    *conv_module("c1_bottleneck", "shallow_reduce"),
    *separable("sep_bottleneck.0", "refine"),
    *separable("sep_bottleneck.1", "fuse"),
)
NON_LOCAL = (
    *FCN,
    *(e for name in ("theta", "phi", "g") for e in conv(f"nl_block.{name}.conv", name)),
    *conv_module("nl_block.conv_out", "project"),
)
QUERY_KEY = conv_module("context.stages.0.key_project", "query_key")
ANN = (
    *conv_module("fusion.stages.0.query_project", "fusion_query"),
    *conv_module("fusion.stages.0.key_project", "fusion_key"),
    *attention("fusion.stages.0", "fusion_"),
    *conv_module("fusion.bottleneck", "fusion_fuse"),
    *conv_module("bottleneck", "reduce"),
    *QUERY_KEY,
    # One layer embeds both queries and keys, and is saved under both names.
    *copies(QUERY_KEY, "context.stages.0.query_project", "context.stages.0.key_project"),
    *attention("context.stages.0", ""),
    *conv_module("context.bottleneck", "fuse"),
)
CCNET = (
    *FCN,
    *(e for name in ("query", "key", "value") for e in conv(f"cca.{name}_conv", name)),
    Entry("cca.gamma.scale", "params/gamma"),
)
DANET = (
    *conv_module("pam_in_conv", "position_reduce"),
    *(e for name in ("query", "key", "value") for e in conv(f"pam.{name}_project", name)),
    Entry("pam.gamma.scale", "params/position_gamma"),
    *conv_module("pam_out_conv", "position_fuse"),
    *conv_module("cam_in_conv", "channel_reduce"),
    Entry("cam.gamma.scale", "params/channel_gamma"),
    *conv_module("cam_out_conv", "channel_fuse"),
)
PSANET = (
    *(
        entry
        for source, branch in (("", "collect"), ("_p", "distribute"))
        for entry in (
            *conv_module(f"reduce{source}", f"{branch}_reduce"),
            *conv_module(f"attention{source}.0", f"{branch}_attention"),
            *conv(f"attention{source}.1", f"{branch}_offsets"),
        )
    ),
    *conv_module("proj", "project"),
    *conv_module("bottleneck", "fuse"),
)
BRANCHES = (
    *conv("decode_head.pam_conv_seg", "position_logit"),
    *conv("decode_head.cam_conv_seg", "channel_logit"),
)
OCR = (
    *conv_module("0.convs.0", "score_reduce"),
    *conv("0.conv_seg", "semantic_logit"),
    *conv_module("1.bottleneck", "reduce"),
    *(
        entry
        for i in (0, 1)
        for name, embedding in (("query", "pixel"), ("key", "region"))
        for entry in conv_module(
            f"1.object_context_block.{name}_project.{i}", f"{embedding}{i + 1}"
        )
    ),
    *conv_module("1.object_context_block.value_project", "region_value"),
    *conv_module("1.object_context_block.out_project", "project"),
    *conv_module("1.object_context_block.bottleneck", "fuse"),
)


@dataclass(frozen=True)
class Head:
    """A decoding head, which together with a ResNet makes a segmenter.

    Attributes:
      name: beginning of the names of mmsegmentation's configs.
      context: the context block that it is.
      entries: names of the block's tensors, behind "decode_head.".
      settings: further settings of its config, given the widths of the ResNet's four stages and the
        width of the head.
      branches: names of the classifiers of the block's branches.
      depths: depths of the ResNets that mmsegmentation's configs combine it with.
      has_variant: whether the block has a variant of its own.
      is_cascade: whether a head before the last gives the coarse scores.
    """

    name: str
    context: str
    entries: Sequence[Entry]
    settings: Callable[[Sequence[int], int], dict[str, Any]]
    branches: Sequence[Entry] = ()
    depths: tuple[int, ...] = (50, 101)
    has_variant: bool = False
    is_cascade: bool = False

    @property
    def last(self) -> str:
        """Name of the last head."""
        return "decode_head.1" if self.is_cascade else "decode_head"

    @property
    def early(self) -> str:
        """Name of the head that gives the coarse scores."""
        return "decode_head.0" if self.is_cascade else "auxiliary_head"

    @property
    def has_rates(self) -> bool:
        """Whether the block has an ASPP."""
        return self.context in ("aspp", "deeplabv3plus")

    @property
    def has_masks(self) -> bool:
        """Whether the block has masks of offsets, of a size for each data set."""
        return self.context == "psanet"


HEADS = (
    Head(
        "fcn",
        "fcn",
        FCN,
        lambda stages, width: {"type": "FCNHead"},
        depths=(18, 50, 101),
        has_variant=True,
    ),
    Head(
        "pspnet",
        "psp",
        PSP,
        lambda stages, width: {"type": "PSPHead"},
        depths=(18, 50, 101),
    ),
    Head(
        "deeplabv3",
        "aspp",
        ASPP,
        lambda stages, width: {"type": "ASPPHead"},
        depths=(18, 50, 101),
        has_variant=True,
    ),
    Head(
        "deeplabv3plus",
        "deeplabv3plus",
        DEEPLABV3PLUS,
        lambda stages, width: {
            "type": "DepthwiseSeparableASPPHead",
            "c1_in_channels": stages[0],
            "c1_channels": 3 * stages[0] // 16,
        },
        depths=(18, 50, 101),
        has_variant=True,
    ),
    Head(
        "nonlocal",
        "nonlocal",
        NON_LOCAL,
        lambda stages, width: {"type": "NLHead"},
        has_variant=True,
    ),
    Head(
        "ann",
        "asymmetric",
        ANN,
        lambda stages, width: {
            "type": "ANNHead",
            "in_channels": stages[2:],
            "in_index": (2, 3),
            "project_channels": width // 2,
        },
    ),
    Head("ccnet", "ccnet", CCNET, lambda stages, width: {"type": "CCHead"}),
    Head(
        "danet",
        "danet",
        DANET,
        lambda stages, width: {"type": "DAHead", "pam_channels": width // 8},
        branches=BRANCHES,
    ),
    Head(
        "psanet",
        "psanet",
        PSANET,
        lambda stages, width: {"type": "PSAHead"},
        has_variant=True,
    ),
    Head(
        "ocrnet",
        "ocr",
        OCR,
        lambda stages, width: {"type": "OCRHead", "ocr_channels": width // 2},
        has_variant=True,
        is_cascade=True,
    ),
)


OCRNET = HEADS[-1]


def head_naming(head: Head, backbone: Naming = resnet.MMSEGMENTATION) -> Naming:
    """Names of a segmenter's tensors, of its head and its backbone."""
    auxiliary = [
        *conv_module("auxiliary_head.convs.0", "auxiliary/reduce"),
        *conv("auxiliary_head.conv_seg", "auxiliary/logit"),
    ]
    return Naming(
        "mmsegmentation",
        (
            *within(backbone.entries, "backbone.", "backbone"),
            *within(head.entries, "decode_head.", "context"),
            *conv(f"{head.last}.conv_seg", "fine_logit"),
            *head.branches,
            *([] if head.is_cascade else auxiliary),
        ),
    )
