"""State dicts among everything that a training script saves, and names without wrappers."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from ranet_jax.errors import UserError
from ranet_jax.porting.stored import Stored

_Tensor = TypeVar("_Tensor")
# No script keeps weights in dictionaries nested deeper than this.
DEEPEST = 8
# No script keeps them under names that are longer than this in total.
LONGEST = 1000
# Prefixes that every name gets when a network is wrapped in another module: a parallel or compiled
# one, one of Lightning's, or a whole network around a backbone.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.")


def find_state_dicts(found: Any) -> dict[str, Mapping[Any, Any]]:
    """The state dicts among nested dictionaries, by the names that lead to each, with dots.

    A state dict is a dictionary in which at least half of the values are tensors, not all of them
    integers. If some have names with dots, as modules do, those without, such as settings, do not
    count. If there is no such dictionary, any with tensors counts.
    """
    dictionaries = dict(_walk(found))
    several = {
        name: entries
        for name, entries in dictionaries.items()
        if 2 * len(tensors := _tensors(entries)) >= len(entries) and any(map(_is_float, tensors))
    }
    of_modules = {
        name: entries
        for name, entries in several.items()
        if any(isinstance(key, str) and "." in key for key in entries)
    }
    return of_modules or several or {n: e for n, e in dictionaries.items() if _tensors(e)}


def choose_state_dict(found: Any, name: str | None, path: object) -> Mapping[Any, Any]:
    """The only state dict among nested dictionaries, or the one with a name.

    Args:
      found: what a file holds.
      name: names that lead to the state dict, with dots, such as "checkpoint.model"; None if there
        is only one.
      path: the file, for error messages.

    Raises:
      UserError: there is no state dict, there are several, or there is none with this name.
    """
    state_dicts = find_state_dicts(found)
    if name is not None:
        dictionaries = state_dicts | dict(_walk(found))
        if name in dictionaries and _tensors(dictionaries[name]):
            return dictionaries[name]
        known = _listed(state_dicts) if list(state_dicts) != [""] else "one that has no name"
        raise UserError(f"{path} holds no state dict {name!r}; it holds {known or 'none'}.")
    if len(state_dicts) > 1:
        raise UserError(
            f"{path} holds several state dicts; choose the one to take the weights from by its"
            f" name: {_listed(state_dicts)}."
        )
    if state_dicts:
        return next(iter(state_dicts.values()))
    entries = found.items() if isinstance(found, Mapping) else []
    other = next((key for key, value in entries if not isinstance(value, Mapping)), None)
    if other is None:
        raise UserError(f"{path} holds no state dict; save the network's state_dict().")
    raise UserError(
        f"{path} holds {other!r}, which is not a tensor; save the network's state_dict()."
    )


def without_prefixes(tensors: Mapping[str, _Tensor]) -> Mapping[str, _Tensor]:
    """The tensors without the prefixes of wrappers that all their names share."""
    while True:
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}


def _walk(found: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Nested dictionaries, each once, with the names that lead to it."""
    seen = set()
    level = [("", found)]
    for _ in range(DEEPEST):
        deeper = []
        for name, value in level:
            if not isinstance(value, Mapping) or id(value) in seen:
                continue
            seen.add(id(value))
            yield name, value
            before = f"{name}." if name else ""
            deeper += [
                (f"{before}{k}", v)
                for k, v in value.items()
                if isinstance(v, Mapping) and _is_name(k) and len(before) + len(k) <= LONGEST
            ]
        level = deeper


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isprintable()


def _tensors(entries: Mapping[Any, Any]) -> list[np.ndarray | Stored]:
    return [value for value in entries.values() if isinstance(value, np.ndarray | Stored)]


def _is_float(tensor: np.ndarray | Stored) -> bool:
    return tensor.dtype is None or tensor.dtype.kind not in "iub"


def _listed(state_dicts: Mapping[str, Mapping[Any, Any]]) -> str:
    return ", ".join(
        f"{name or repr('')} ({len(_tensors(entries))} tensors)"
        for name, entries in list(state_dicts.items())[:20]
    )
