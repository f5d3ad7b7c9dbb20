"""The result of a command as JSON, if `--json` asks for it."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ranet_jax.display.output import current_output
from ranet_jax.files import json_text


def show_document(value: Any) -> None:
    """Print a result as the one JSON document of a command, or nothing without `--json`.

    Paths become strings, data classes become dictionaries, and numbers that JSON cannot hold become
    null.
    """
    if current_output().json:
        print(json_text(_plain(value)), flush=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
