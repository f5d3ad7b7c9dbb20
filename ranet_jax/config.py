"""The fields every experiment has; files in `configs/` start from these and set their own."""

import json
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from ranet_jax.errors import UserError


def default_config() -> ConfigDict:
    """Config of the paper's network, with training fields that every experiment overrides."""
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "shapes"
    config.data.data_dir = placeholder(str)  # TFDS's default directory when not set
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.crop_size = (769, 769)
    config.data.scale_range = (0.5, 2.0)
    config.data.flip = True
    config.data.brightness = 0.0  # largest shift, as a fraction of 255
    config.data.contrast = 0.0  # largest change of the factor, which is 1 without
    config.data.saturation = 0.0  # likewise
    config.data.shuffle_buffer = 1024  # encoded examples held in memory
    config.data.mean = (123.675, 116.28, 103.53)
    config.data.std = (58.395, 57.12, 57.375)
    config.data.channel_order = "rgb"

    config.model = ConfigDict()
    config.model.init_from = placeholder(str)  # directory of `ranet port`, or a trained model
    config.model.init_allow_missing = placeholder(str)  # paths of parameters it may lack
    config.model.backbone = "resnet101"  # or another, "hrnetv2_w48" or "mobilenetv2"
    config.model.stem = (
        "conv7"  # or three 3x3 convolutions: "deep" (64, 64, 128), "v1c" (32, 32, 64)
    )
    config.model.stages = 4  # residual stages that are built
    config.model.width = 64  # channels of the first stage
    config.model.output_stride = 8
    # or "nonlocal", "asymmetric", "ccnet", "danet", "psanet", "ocr", "psp", "aspp", "fcn", "none"
    config.model.context = "ranet"
    config.model.variant = "paper"  # or "released": what the authors' code does
    config.model.channels = 512
    config.model.num_regions = 64  # Q
    config.model.per_region = 8  # K
    config.model.threshold = 0.8  # tau of Eq. 4
    config.model.kernel_size = 1  # k of W^g in Eq. 4
    # The order of Eqs. 1-5: "auto" for the platform's, "streaming" (CPU), "planes" (GPU) or
    # "kernel" (TPU); or "dense", with tables of all pixel pairs
    config.model.region_path = "auto"
    config.model.region_scores = "both"  # or "boundary", "semantic": what tells pixels apart
    config.model.intra_region = True  # whether Eqs. 6 and 8 exchange context within regions
    config.model.inter_region = True  # whether Eq. 7 does between them
    config.model.aspp_rates = ()  # dilations of an ASPP in place of the block's first convolution
    config.model.auxiliary = False  # whether an earlier stage gives coarse scores to blocks without
    config.model.dropout = 0.1
    config.model.dtype = "float32"  # of activations; parameters are float32

    config.loss = ConfigDict()
    config.loss.fine = 1.0
    config.loss.coarse = 0.4
    config.loss.boundary = 0.4
    config.loss.fine_boundary = 0.2  # of the released variant, which has this output
    config.loss.boundary_target = "cells"  # of the feature grid; or "pixels", a band of the labels
    config.loss.boundary_positive_weight = 1.0  # factor of boundary pixels in boundary losses
    config.loss.boundary_focus = 0.0  # gamma of the focal loss in boundary losses; 0 for none
    config.loss.branches = 1.0  # of each branch of danet
    config.loss.class_weights = ()  # factor of each class's pixels in fine and coarse; () for 1

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.001
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.power = 1.0  # of the decay to zero: 1 is linear
    config.optimizer.warmup_steps = 0
    config.optimizer.lr_multipliers = ()  # ((regular expression of parameter path, factor), ...)
    config.optimizer.clip_norm = placeholder(float)
    config.optimizer.ema_decay = placeholder(float)

    config.train = ConfigDict()
    config.train.steps = 40_000
    config.train.batch_size = 8  # over all devices of all hosts
    config.train.microbatches = 1  # gradients of a batch accumulate over this many parts
    config.train.parallel = "pmap"  # or "shard_map"
    config.train.log_every = 50
    config.train.eval_every = 2000
    config.train.checkpoint_every = 1000
    config.train.keep_checkpoints = 3

    config.eval = ConfigDict()
    config.eval.batch_size = 8  # a host
    config.eval.mode = "whole"  # or "slide"
    config.eval.crop_size = (769, 769)
    config.eval.stride_ratio = 2 / 3  # of the sliding window, in crops
    config.eval.scales = (1.0,)
    config.eval.flip = False
    config.eval.regions = True  # whether to count regions, in a pass of their own if need be
    return config.lock()


def config_to_json(config: ConfigDict) -> dict[str, Any]:
    """Plain nested dictionary of a config, tuples as lists, as JSON holds it."""
    return json.loads(json.dumps(config.to_dict()))


def config_from_json(fields: dict[str, Any]) -> ConfigDict:
    """Rebuild a config from `config_to_json`'s dictionary.

    Raises:
      UserError: a field is unknown, its value has another type than the default, or the config is
        of a RANet that was trained with another Eq. 1.
    """
    _check_equations(fields)
    config, loss = default_config(), fields.get("loss")
    if isinstance(loss, dict) and "boundary" in loss:  # what there was before there was a choice
        config.loss.boundary_target = "pixels"
    for name, value in _named_values(fields):
        set_field(config, name, value)
    data = fields.get("data")
    # Configs without this field are older than the choice of an order, and had the one there was.
    older = isinstance(data, dict) and "contrast" not in data
    if older and config.model.region_path == "streaming":
        config.model.region_path = "auto"
    return config


def _check_equations(fields: dict[str, Any]) -> None:
    """Refuse a RANet of ranet_jax 0.1: its configs lack the field that came with Eq. 1's change."""
    model, loss = fields.get("model"), fields.get("loss", {})
    if not isinstance(model, dict) or not isinstance(loss, dict):
        return
    is_ranet = (model.get("context"), model.get("variant", "paper")) == ("ranet", "paper")
    if is_ranet and "boundary_target" not in loss:
        raise UserError(
            "it is a RANet of ranet_jax 0.1, where Eq. 1 left out the end points of its segments,"
            " and its weights have learned other regions than this version makes; train it anew,"
            " or use it with ranet_jax 0.1."
        )


def _named_values(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from _named_values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def field_type(name: str) -> type:
    """Type of the values of a field, by its dotted name.

    Raises:
      UserError: there is no such field.
    """
    section, field = _locate(default_config(), name)
    return section.get_type(field)


def set_field(config: ConfigDict, name: str, value: Any) -> None:
    """Set a field by its dotted name, lists as tuples and integers as floats where those belong.

    Raises:
      UserError: there is no such field, or its value has another type than the default.
    """
    defaults, field = _locate(default_config(), name)
    default, kind = defaults[field], defaults.get_type(field)
    try:
        fitting = None if value is default is None else _fit(value, kind, default)
    except TypeError as error:
        example = "or None" if default is None else f"such as {default!r}"
        raise UserError(
            f"Field {name!r} of the config takes a value of type {kind.__name__} {example}, which"
            f" {value!r} is not."
        ) from error
    section, _ = _locate(config, name)
    section[field] = fitting


def _locate(config: ConfigDict, name: str) -> tuple[ConfigDict, str]:
    """Section that holds a field, and the field's name in it."""
    path, _, field = name.rpartition(".")
    section = config.get(path) if path else config
    if (
        not isinstance(section, ConfigDict)
        or field not in section
        or isinstance(section[field], ConfigDict)
    ):
        raise UserError(
            f"The config has no field {name!r}; its fields are listed in ranet_jax/config.py."
        )
    return section, field


def _fit(value: Any, kind: type, default: Any) -> Any:
    """The value as a field of this type and default holds it, or TypeError.

    A tuple has as many entries as the default, or any number where the default has one or none.
    """
    if kind is tuple and isinstance(value, list | tuple):
        if len(default) > 1 and len(value) != len(default):
            raise TypeError
        entries = default[:1] * len(value)
        return tuple(map(_fit, value, map(type, entries), entries)) if default else _tuples(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def differing_fields(left: dict[str, Any], right: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the fields in which two JSON configs differ, those in one alone included."""
    names = []
    for key in sorted(left.keys() | right.keys()):
        a, b = left.get(key), right.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differing_fields(a, b, f"{prefix}{key}.")
        elif key not in left or key not in right or a != b:
            names.append(f"{prefix}{key}")
    return names


def check_config(config: ConfigDict) -> None:
    """Raise `UserError` unless every number of a config lies in its range."""
    model, train = config.model, config.train
    counts = {f"model.{name}": model[name] for name in ("num_regions", "per_region")}
    counts |= {f"model.{name}": model[name] for name in ("width", "channels", "kernel_size")}
    counts |= {f"train.{name}": value for name, value in train.items() if name != "parallel"}
    counts |= {
        "data.crop_size": min(config.data.crop_size),
        "data.shuffle_buffer": config.data.shuffle_buffer,
        "eval.crop_size": min(config.eval.crop_size),
        "eval.batch_size": config.eval.batch_size,
    }
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"config.{name} is {count}; choose 1 or more.")
    if model.kernel_size % 2 == 0:
        raise UserError(f"config.model.kernel_size is {model.kernel_size}; choose an odd size.")
    if not 0 < config.optimizer.learning_rate < float("inf"):
        raise UserError(
            f"config.optimizer.learning_rate is {config.optimizer.learning_rate}; choose a positive"
            " number."
        )
    if not 0 <= model.dropout < 1:
        raise UserError(f"config.model.dropout is {model.dropout}; choose 0 or more, less than 1.")
    for weight in config.loss.class_weights:
        if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise UserError(
                f"config.loss.class_weights holds {weight!r}; choose numbers of 0 or more."
            )
    low, high = config.data.scale_range
    if not 0 < low <= high:
        raise UserError(f"config.data.scale_range is {(low, high)}; choose 0 < low <= high.")
    for field in ("brightness", "contrast", "saturation"):
        if not 0 <= config.data[field] <= 1:
            raise UserError(f"config.data.{field} is {config.data[field]}; choose 0 to 1.")
    for entry in config.optimizer.lr_multipliers:
        match entry:
            case (str(), int() | float() as factor) if factor > 0:
                continue
        raise UserError(
            f"config.optimizer.lr_multipliers holds {entry!r}; give pairs of a regular expression"
            " and a positive factor, such as (('backbone', 0.1),)."
        )
