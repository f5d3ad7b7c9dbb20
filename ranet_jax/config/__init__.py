"""Configs of experiments, and the declarations of their fields."""

from ranet_jax.config.declarations import check_value
from ranet_jax.config.experiment import (
    changed_fields,
    check_config,
    config_from_json,
    config_to_json,
    default_config,
    field_type,
    set_field,
)

__all__ = [
    "changed_fields",
    "check_config",
    "check_value",
    "config_from_json",
    "config_to_json",
    "default_config",
    "field_type",
    "set_field",
]
