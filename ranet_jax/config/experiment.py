"""Configs of experiments, made of the fields that `ranet_jax.config.declarations` declares.

Files in `configs/` start from `default_config` and set their own values.
"""

import difflib
import json
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from ranet_jax.config.declarations import FIELDS, check_value
from ranet_jax.config.field import Effect, shown
from ranet_jax.errors import UserError


def default_config() -> ConfigDict:
    """Config of the paper's network, with training fields that every experiment overrides."""
    config = ConfigDict()
    for name, field in FIELDS.items():
        section, _, key = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        value = placeholder(field.kind) if field.default is None else field.default
        (config[section] if section else config)[key] = value
    return config.lock()


def config_to_json(config: ConfigDict) -> dict[str, Any]:
    """A config as a nested dictionary of JSON values; tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def config_from_json(fields: dict[str, Any]) -> ConfigDict:
    """Rebuild a config from the dictionary that `config_to_json` returns.

    Raises:
      UserError: a field is unknown, its value has another type than the default, or the config
        belongs to a RANet that was trained with another Eq. 1.
    """
    _check_equations(fields)
    config, loss = default_config(), fields.get("loss")
    if isinstance(loss, dict) and "boundary" in loss:  # older configs had no other target
        config.loss.boundary_target = "pixels"
    for name, value in _named_values(fields):
        set_field(config, name, value)
    data = fields.get("data")
    # Configs without this field are older than the choice of an order; there was only one then.
    older = isinstance(data, dict) and "contrast" not in data
    if older and config.model.region_path == "streaming":
        config.model.region_path = "auto"
    return config


def _check_equations(fields: dict[str, Any]) -> None:
    """Refuse a RANet of ranet_jax 0.1: its config lacks the field added when Eq. 1 was changed."""
    model, loss = fields.get("model"), fields.get("loss", {})
    if not isinstance(model, dict) or not isinstance(loss, dict):
        return
    is_ranet = (model.get("context"), model.get("variant", "paper")) == ("ranet", "paper")
    if is_ranet and "boundary_target" not in loss:
        raise UserError(
            "it is a RANet of ranet_jax 0.1, where Eq. 1 left out the end points of its segments,"
            " so its weights were trained on regions that differ from those of this version; train"
            " it again, or use it with ranet_jax 0.1."
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
    _check_name(name)
    return FIELDS[name].kind


def set_field(config: ConfigDict, name: str, value: Any) -> None:
    """Set a field by its dotted name; if the field needs it, lists become tuples, integers floats.

    Raises:
      UserError: there is no such field, or the value has another type than the default.
    """
    _check_name(name)
    default, kind = FIELDS[name].default, FIELDS[name].kind
    try:
        fitting = None if value is default is None else _fit(value, kind, default)
    except (TypeError, OverflowError) as error:
        example = "or None" if default is None else f"such as {default!r}"
        raise UserError(
            f"Field {name!r} of the config takes a value of type {kind.__name__} {example}, not"
            f" {shown(value)}."
        ) from error
    section, key = _locate(config, name)
    section[key] = fitting


def _check_name(name: str) -> None:
    if name not in FIELDS:
        close = difflib.get_close_matches(name, FIELDS, 1)
        meant = f" (perhaps {close[0]!r} is meant)" if close else ""
        raise UserError(
            f"The config has no field {name!r}{meant}; its fields are listed in docs/config.md."
        )


def _locate(config: ConfigDict, name: str) -> tuple[ConfigDict, str]:
    """Section that holds a field, and the field's name in it."""
    section, _, key = name.rpartition(".")
    return (config[section] if section else config), key


def _fit(value: Any, kind: type, default: Any) -> Any:
    """Convert a value to the type of a field with this default; TypeError if it does not fit.

    A tuple must have as many entries as the default, or any number if the default has one or none.
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


def changed_fields(left: ConfigDict, right: ConfigDict, *effects: Effect) -> list[str]:
    """Dotted names of the fields that have one of these effects and differ in two configs."""
    values = [dict(_named_values(config_to_json(config))) for config in (left, right)]
    return [
        name
        for name, field in FIELDS.items()
        if field.effect in effects and values[0][name] != values[1][name]
    ]


def check_config(config: ConfigDict) -> None:
    """Raise `UserError` unless every field of a config accepts its value."""
    for name in FIELDS:
        section, key = _locate(config, name)
        check_value(name, section[key])
