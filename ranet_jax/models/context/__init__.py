"""Context blocks by name: each takes a backbone's stages and returns a `ContextOutput`."""

from collections.abc import Callable

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.models.backbones import earlier_stage, last_stage
from ranet_jax.models.context.aspp import ASPPContext
from ranet_jax.models.context.asymmetric import AsymmetricContext
from ranet_jax.models.context.ccnet import CCContext
from ranet_jax.models.context.danet import DAContext
from ranet_jax.models.context.fcn import FCNContext
from ranet_jax.models.context.non_local import NonLocalContext
from ranet_jax.models.context.ocr import OCRContext
from ranet_jax.models.context.plain import PlainContext
from ranet_jax.models.context.psanet import PSAContext
from ranet_jax.models.context.psp import PSPContext
from ranet_jax.models.context.ranet import REGION_PATHS, REGION_SCORES, RANetContext
from ranet_jax.models.context.released import ReleasedContext
from ranet_jax.models.layers import Dtype

__all__ = [
    "COARSE",
    "CONTEXTS",
    "PAIRWISE",
    "ASPPContext",
    "AsymmetricContext",
    "CCContext",
    "DAContext",
    "FCNContext",
    "NonLocalContext",
    "OCRContext",
    "PSAContext",
    "PSPContext",
    "PlainContext",
    "RANetContext",
    "ReleasedContext",
    "build_context",
    "holds_pair_tables",
]

# Blocks that a stage and a number of channels describe.
SIMPLE: dict[str, Callable[..., nn.Module]] = {
    "nonlocal": NonLocalContext,
    "ccnet": CCContext,
    "danet": DAContext,
    "psanet": PSAContext,
    "psp": PSPContext,
    "fcn": FCNContext,
    "none": PlainContext,
}
CONTEXTS = ("ranet", "asymmetric", "ocr", "aspp", *SIMPLE)
# Those that give coarse scores.
COARSE = ("ranet", "ocr")
# Those that hold tables of all pairs of feature pixels.
TABLES = ("nonlocal", "danet", "psanet")
# Those that compare all pairs of feature pixels, and cannot take images of any size.
PAIRWISE = ("ranet", *TABLES)
VARIANTS = ("paper", "released")
BOTTLENECK_RESNETS = ("resnet50", "resnet101")


def build_context(
    model: ConfigDict, num_classes: int, dtype: Dtype, axis_name: str | None
) -> nn.Module:
    """The context block that the `model` section of a config names.

    Raises:
      ValueError: the name or one of its settings is no choice.
    """
    if model.context not in CONTEXTS:
        raise ValueError(f"context is {model.context!r}; choose one of {CONTEXTS}.")
    if model.variant not in VARIANTS:
        raise ValueError(f"variant is {model.variant!r}; choose one of {VARIANTS}.")
    if model.region_path not in REGION_PATHS:
        raise ValueError(
            f"region_path is {model.region_path!r}; choose one of {tuple(REGION_PATHS)}."
        )
    shared = {"channels": model.channels, "dtype": dtype, "axis_name": axis_name}
    stage = last_stage(model)
    if model.aspp_rates and model.context not in ("ranet", "aspp"):
        raise ValueError(f"context {model.context!r} has no ASPP; leave aspp_rates empty.")
    if model.context in ("nonlocal", "ocr") and model.channels < 2:
        raise ValueError(f"context {model.context!r} halves the channels; choose 2 or more.")
    if model.context in SIMPLE:
        return SIMPLE[model.context](stage, **shared)
    if model.context == "asymmetric":
        return AsymmetricContext(stage, earlier_stage(model), **shared)
    if model.context == "aspp":
        if not model.aspp_rates:
            raise ValueError('context "aspp" needs aspp_rates, such as (12, 24, 36).')
        return ASPPContext(stage, tuple(model.aspp_rates), **shared)
    if model.context == "ocr":
        return OCRContext(num_classes, stage, earlier_stage(model) or stage, **shared)
    shared |= {
        "num_classes": num_classes,
        "num_regions": model.num_regions,
        "per_region": model.per_region,
        "threshold": model.threshold,
    }
    if model.region_scores not in REGION_SCORES:
        raise ValueError(
            f"region_scores is {model.region_scores!r}; choose one of {REGION_SCORES}."
        )
    if not (model.intra_region or model.inter_region):
        raise ValueError("intra_region and inter_region are both False; leave one True.")
    if model.variant == "released":
        if (model.region_scores, model.intra_region, model.inter_region) != ("both", True, True):
            raise ValueError(
                'variant "released" has no parts to leave out; region_scores is "both",'
                " intra_region and inter_region are True."
            )
        settings = (model.stem, model.stages, model.output_stride)
        if model.aspp_rates:
            raise ValueError('variant "released" has no ASPP; leave aspp_rates empty.')
        if model.backbone not in BOTTLENECK_RESNETS or settings != ("deep", 4, 8):
            raise ValueError(
                f'variant "released" is made for a backbone of {BOTTLENECK_RESNETS},'
                ' stem = "deep", stages = 4 and output_stride = 8.'
            )
        return ReleasedContext(dropout=model.dropout, **shared)
    return RANetContext(
        stage=stage,
        aspp_rates=tuple(model.aspp_rates),
        kernel_size=model.kernel_size,
        region_path=model.region_path,
        region_scores=model.region_scores,
        intra_region=model.intra_region,
        inter_region=model.inter_region,
        **shared,
    )


def holds_pair_tables(model: ConfigDict) -> bool:
    """Whether the block that `model` names holds tables of all pairs of feature pixels."""
    if model.context != "ranet":
        return model.context in TABLES
    return model.variant == "released" or model.region_path == "dense" or model.kernel_size > 1
