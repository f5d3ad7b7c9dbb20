"""From a state dict to the arrays of a Flax module and back, each of them accounted for."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ranet_jax.errors import UserError
from ranet_jax.porting.files import StateDict
from ranet_jax.porting.name_patterns import Entry, Naming

Shape = tuple[int, ...]
# By paths like `params/conv1/kernel`.
Arrays = dict[str, np.ndarray]


def choose_naming(namings: tuple[Naming, ...], tensors: StateDict) -> Naming:
    """The naming that has a place for most of the tensors."""
    return max(namings, key=lambda naming: sum(naming.knows(name) for name in tensors))


def to_arrays(
    tensors: StateDict,
    naming: Naming,
    expected: Mapping[str, Shape],
    allowed: Sequence[re.Pattern[str]] = (),
) -> tuple[Arrays, StateDict, list[str]]:
    """Make the arrays of a module out of the tensors of a state dict, every one used once.

    Args:
      tensors: state dict.
      naming: its names.
      expected: shapes of the module's arrays.
      allowed: patterns of arrays that the state dict may lack, searched for in their names there
        and in their paths here.

    Returns:
      The arrays, in float32; the tensors that no array can give back bit by bit; the paths of
      the arrays that are missing.

    Raises:
      UserError: arrays are missing, tensors are unexpected, of another shape or of integers,
        or too large for float32: it lists them all.
    """
    arrays: Arrays = {}
    kept: StateDict = {}
    unexpected, mismatching, unusable = [], [], []
    used: dict[str, str] = {}
    for name, tensor in tensors.items():
        entry = naming.to_target(name, expected.__contains__)
        if entry is None or not (entry.target is None or entry.target in expected):
            unexpected.append(f"{name} {tensor.shape}")
        elif entry.target is None:
            kept[name] = tensor
        elif entry.target in used:
            unexpected.append(f"{name} {tensor.shape}, besides {used[entry.target]}")
        else:
            used[entry.target] = name
            shape = _source_shape(entry, expected[entry.target])
            if tensor.shape != shape:
                mismatching.append(f"{name} {tensor.shape}, where the network has {shape}")
                continue
            values = entry.transform.forward(tensor)
            array = _to_float32(values)
            arrays[entry.target] = array
            if tensor.dtype.kind in "iub":
                unusable.append(f"{name} of {tensor.dtype}")
            elif np.isinf(array[np.isfinite(values)]).any():
                unusable.append(f"{name} holds numbers too large for float32")
            if not _same_bits(entry.transform.backward(array), tensor):
                kept[name] = tensor
    absent = [path for path in expected if path not in used]
    fresh = [path for path in absent if _is_allowed(path, naming, allowed)]
    missing = [
        f"{_source_name(path, naming)} {expected[path]} of the network"
        for path in absent
        if path not in fresh
    ]
    if missing or unexpected or mismatching:
        lists = {"missing": missing, "unexpected": unexpected, "mismatching": mismatching}
        raise UserError(
            f"The weights do not fit the network: {len(missing)} of its arrays are missing,"
            f" {len(unexpected)} tensors are unexpected and {len(mismatching)} of another shape;"
            " name the network they belong to, or allow those to be missing that may be."
            + "".join(f"\n  {title}: {line}" for title, lines in lists.items() for line in lines)
            + _hint(unexpected, naming)
        )
    if unusable:
        raise UserError(
            f"{len(unusable)} of the tensors are not weights in float32; save the network as such."
            + "".join(f"\n  unusable: {line}" for line in unusable)
        )
    return arrays, kept, fresh


def to_tensors(arrays: Arrays, naming: Naming, kept: StateDict | None = None) -> StateDict:
    """Make a state dict out of the arrays of a module.

    Args:
      arrays: the module's.
      naming: names of the state dict.
      kept: tensors that `to_arrays` returned beside the arrays; those that still make the same
        arrays, and those that make none, come back as they were.

    Raises:
      UserError: the naming has no name for an array, or no tensor of it makes the array.
    """
    kept = kept or {}
    tensors: StateDict = {}
    made_of_kept = set()
    for path, array in arrays.items():
        entry = naming.to_source(path)
        if entry is None:
            raise UserError(f"The naming {naming.name!r} has no name for {path}; choose another.")
        original = kept.get(entry.source)
        made_of_kept.add(entry.source)
        if original is not None and np.array_equal(
            _to_float32(entry.transform.forward(original)), array, equal_nan=True
        ):
            tensors[entry.source] = original
            continue
        tensors[entry.source] = entry.transform.backward(array)
        if not np.allclose(
            entry.transform.forward(tensors[entry.source]), array, rtol=1e-6, atol=0, equal_nan=True
        ):
            raise UserError(
                f"In the naming {naming.name!r} no tensor {entry.source} stands for the values of"
                f" {path}: its layer scales by the weight's absolute value; choose another naming."
            )
    return tensors | {k: v for k, v in kept.items() if k not in made_of_kept}


def _to_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether dtype and bits are the same, as those of 0.0 and -0.0 are not."""
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _source_shape(entry: Entry, shape: Shape) -> Shape:
    return entry.transform.backward(np.broadcast_to(np.float32(0), shape)).shape


def _source_name(path: str, naming: Naming) -> str:
    entry = naming.to_source(path)
    return path if entry is None else entry.source


def _is_allowed(path: str, naming: Naming, allowed: Sequence[re.Pattern[str]]) -> bool:
    names = (path, _source_name(path, naming))
    return any(pattern.search(name) for pattern in allowed for name in names)


def _hint(unexpected: list[str], naming: Naming) -> str:
    """A remedy where the network is a part of a larger one, whose tensors have a prefix."""
    firsts = {name.split(".")[0] + "." for name in unexpected}
    prefixes = [
        first
        for first in sorted(firsts)
        if any(naming.knows(name.split()[0].removeprefix(first)) for name in unexpected)
        and not any(naming.knows(name.split()[0]) for name in unexpected)
    ]
    if not prefixes:
        return ""
    return f"\nGive the prefix {prefixes[0]} to take only the tensors whose names begin with it."
