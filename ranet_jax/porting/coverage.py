"""From a state dict to the arrays of a Flax module and back, each of them accounted for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ranet_jax.errors import UserError
from ranet_jax.porting.files import StateDict
from ranet_jax.porting.name_patterns import Entry, Naming
from ranet_jax.porting.stored import Tensors, as_array

Shape = tuple[int, ...]
# By paths like `params/conv1/kernel`.
Arrays = dict[str, np.ndarray]


# The most lines of a report, which could otherwise have thousands.
MOST_LINES = 40


class Misfit(UserError):
    """Weights that do not fit a network; its text is a report of no more than `MOST_LINES` lines.

    Attributes:
      complaint: sentence that says what does not fit.
      lists: what does not fit, by kind.
      advice: sentence that says what would fit; empty if that is not known.
    """

    def __init__(self, complaint: str, lists: Mapping[str, list[str]], advice: str = ""):
        self.complaint, self.lists, self.advice = complaint, lists, advice
        super().__init__(self.report(MOST_LINES))

    def report(self, most: int | None = None) -> str:
        """Advice, complaint and list entries, one per line; long lists are cut to fit `most`."""
        lines = [text for text in (self.advice, self.complaint) if text]
        lists = {kind: entries for kind, entries in self.lists.items() if entries}
        room = None if most is None else most - len(lines)
        for left, (kind, entries) in zip(
            range(len(lists), 0, -1), sorted(lists.items(), key=lambda i: len(i[1])), strict=True
        ):
            taken = entries
            if room is not None and len(entries) > room // left:
                taken = entries[: room // left - 1]
            shown = [f"  {kind}: {entry}" for entry in taken]
            if len(taken) < len(entries):
                shown.append(f"  {kind}: {len(entries) - len(taken)} more")
            lines += shown
            room = None if room is None else room - len(shown)
        return "\n".join(lines)


@dataclass(frozen=True)
class Match:
    """Which tensors of a state dict belong to which arrays of a module, by names and shapes.

    Attributes:
      entries: the entry of each tensor that has a place, by the tensor's name; an entry without
        `target` is for a tensor that the network does not compute with.
      absent: paths of the arrays that no tensor belongs to.
      unexpected, mismatching: descriptions of the other tensors.
    """

    entries: dict[str, Entry]
    absent: list[str]
    unexpected: list[str]
    mismatching: list[str]


def match(tensors: Tensors, naming: Naming, expected: Mapping[str, Shape]) -> Match:
    """Find the array that each tensor of a state dict belongs to.

    Args:
      tensors: state dict.
      naming: its naming.
      expected: shapes of the module's arrays.
    """
    entries: dict[str, Entry] = {}
    unexpected, mismatching = [], []
    used: dict[str, str] = {}
    for name, tensor in tensors.items():
        entry = naming.to_target(name, expected.__contains__)
        if entry is None or not (entry.target is None or entry.target in expected):
            unexpected.append(f"{name} {tensor.shape}")
        elif entry.copy_of is not None and not _repeats(tensors, name, entry.copy_of):
            unexpected.append(f"{name} {tensor.shape}, which does not repeat {entry.copy_of}")
        elif entry.target is None:
            entries[name] = entry
        elif entry.target in used:
            unexpected.append(f"{name} {tensor.shape}, in addition to {used[entry.target]}")
        else:
            used[entry.target] = name
            shape = _source_shape(entry, expected[entry.target])
            if tensor.shape == shape:
                entries[name] = entry
            else:
                mismatching.append(f"{name} {tensor.shape}, but the network has {shape}")
    absent = [path for path in expected if path not in used]
    return Match(entries, absent, unexpected, mismatching)


def choose_naming(namings: tuple[Naming, ...], tensors: Tensors) -> Naming:
    """The naming that has a place for most of the tensors."""
    return max(namings, key=lambda naming: sum(naming.knows(name) for name in tensors))


def to_arrays(
    tensors: Tensors,
    naming: Naming,
    expected: Mapping[str, Shape],
    allowed: Sequence[re.Pattern[str]] = (),
) -> tuple[Arrays, StateDict, list[str]]:
    """Make the arrays of a module from the tensors of a state dict, each of which is used once.

    Args:
      tensors: state dict.
      naming: its naming.
      expected: shapes of the module's arrays.
      allowed: patterns of arrays that the state dict may lack, searched for in their names in the
        state dict and in their paths in the module.

    Returns:
      The arrays, in float32; the tensors that no array can restore bit by bit; the paths of the
      arrays that are missing.

    Raises:
      Misfit: arrays are missing, tensors are unexpected, of another shape or of integers, or too
        large for float32.
    """
    found = match(tensors, naming, expected)
    fresh = [path for path in found.absent if _is_allowed(path, naming, allowed)]
    missing = [
        f"{_source_name(path, naming)} {expected[path]} of the network"
        for path in found.absent
        if path not in fresh
    ]
    if missing or found.unexpected or found.mismatching:
        raise Misfit(
            f"The weights do not fit the network: {len(missing)} of its arrays are missing,"
            f" {len(found.unexpected)} tensors are unexpected and {len(found.mismatching)} have"
            " another shape; name the network they belong to, or state which arrays may be"
            " missing.",
            {
                "missing": missing,
                "unexpected": found.unexpected,
                "mismatching": found.mismatching,
            },
        )
    arrays: Arrays = {}
    kept: StateDict = {}
    unusable = []
    for name, entry in found.entries.items():
        if entry.copy_of is not None:
            continue
        tensor = as_array(tensors[name])
        if entry.target is None:
            kept[name] = tensor
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
    if unusable:
        raise Misfit(
            f"{len(unusable)} of the tensors are not weights in float32; save the network in"
            " float32.",
            {"unusable": unusable},
        )
    return arrays, kept, fresh


def to_tensors(arrays: Arrays, naming: Naming, kept: StateDict | None = None) -> StateDict:
    """Make a state dict from the arrays of a module.

    Args:
      arrays: arrays of the module.
      naming: naming of the state dict.
      kept: tensors that `to_arrays` returned besides the arrays; those that still make the same
        arrays, and those that make none, are returned unchanged.

    Raises:
      UserError: the naming has no name for an array, or no tensor in it makes the array.
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
                f"In the naming {naming.name!r} no tensor {entry.source} can represent the values"
                f" of {path}, as its layer scales by the weight's absolute value; choose another"
                " naming."
            )
    rest = {k: v for k, v in kept.items() if k not in made_of_kept}
    return naming.with_copies(tensors | rest)


def _to_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _repeats(tensors: Tensors, name: str, original: str) -> bool:
    return original in tensors and _same_bits(as_array(tensors[name]), as_array(tensors[original]))


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether dtype and bits are the same; the bits of 0.0 and -0.0 differ."""
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _source_shape(entry: Entry, shape: Shape) -> Shape:
    return entry.transform.backward(np.broadcast_to(np.float32(0), shape)).shape


def _source_name(path: str, naming: Naming) -> str:
    entry = naming.to_source(path)
    return path if entry is None else entry.source


def _is_allowed(path: str, naming: Naming, allowed: Sequence[re.Pattern[str]]) -> bool:
    names = (path, _source_name(path, naming))
    return any(pattern.search(name) for pattern in allowed for name in names)
