"""Segmenters of a config: this package's own names, and those of libraries with similar ones."""

import copy
from collections.abc import Callable, Sequence

import flax.linen as nn
from ml_collections import ConfigDict

from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.pipeline.metadata import IGNORE_LABEL
from ranet_jax.porting.coverage import Misfit
from ranet_jax.porting.name_patterns import Entry, Naming, conv, group_norm, norm, within
from ranet_jax.porting.networks.network import Network, Source, Twin

CLASSIFIER = "params/fine_logit/bias"
# Name of this package's own naming, which every segmenter has.
OWN = "ranet_jax"


def segmenter(
    name: str,
    config: ConfigDict,
    backbone: Naming,
    others: Sequence[Naming],
    optional_auxiliary: bool = False,
    twin: Twin | None = None,
    fit_shapes: Callable[[ConfigDict, Source], None] | None = None,
) -> Network:
    """The network of a config's segmenter.

    Args:
      name: the name by which users choose it.
      config: config of an experiment with it.
      backbone: names of its backbone.
      others: namings of the whole segmenter besides this package's own.
      optional_auxiliary: whether it has an auxiliary head exactly if the state dict holds one.
      twin: the implementation to compare it with.
      fit_shapes: changes the `model` section of the config to fit the shapes of a state dict.
    """
    config = copy.deepcopy(config)  # it is changed to fit what a state dict holds
    model = config.model
    namings = (*others, own_naming(backbone))
    classifiers = [entry.source for n in namings if (entry := n.to_source(CLASSIFIER))]

    def build(output_stride: int, num_classes: int | None, source: Source) -> nn.Module:
        if num_classes is None:
            raise Misfit(
                f"The weights hold no classifier ({' or '.join(classifiers)}), which {name} needs;"
                " name the network they belong to, or the number of classes of a new"
                " classifier.",
                {},
            )
        if num_classes > IGNORE_LABEL:
            raise UserError(
                f"The classifier has {num_classes} classes; a segmenter has at most {IGNORE_LABEL},"
                " because its labels are bytes and one value is ignored."
            )
        with model.unlocked():
            model.output_stride = output_stride
            model.dtype = "float32"
            if optional_auxiliary:
                model.auxiliary = source("params/auxiliary/logit/bias") is not None
            if fit_shapes is not None:
                fit_shapes(model, source)
        return build_model(config, num_classes)

    return Network(name, namings, model.output_stride, CLASSIFIER, build, config, twin)


_SEPARABLE = [
    entry
    for place in ("context.{name}", "context.aspp.{name}")
    for half in ("depthwise", "pointwise")
    for entry in (
        *conv(f"{place}.{half}.conv", f"{place.replace('.', '/')}/{half}/conv"),
        *norm(f"{place}.{half}.bn", f"{place.replace('.', '/')}/{half}/bn"),
        *conv(f"{place}.{half}", f"{place.replace('.', '/')}/{half}"),
    )
]


def own_naming(backbone: Naming) -> Naming:
    """Names of this package's own segmenters: the backbone's, and paths of modules with dots."""
    return Naming(
        OWN,
        (
            *within(backbone.entries, "backbone.", "backbone"),
            *conv("context.{name}.conv", "context/{name}/conv"),
            *norm("context.{name}.bn", "context/{name}/bn"),
            *group_norm("context.{name}.gn", "context/{name}/gn"),
            *conv("context.aspp.{name}.conv", "context/aspp/{name}/conv"),
            *norm("context.aspp.{name}.bn", "context/aspp/{name}/bn"),
            *_SEPARABLE,
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
        "this package",
    )
