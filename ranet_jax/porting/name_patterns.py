"""The names that a PyTorch state dict has for the arrays of a Flax module, written as a table.

A line of the table is a pair of templates, one for a tensor's name in the state dict and one for an
array's path in the variables, with a transform between their values. Fields in braces stand for the
same text on both sides: `{name}` for an identifier, any other field for a number. So

    layer{s}.{b}.conv{i}.weight  <->  params/layer{s}_block{b}/conv{i}/kernel

is read in both directions, and the first line of a table that fits decides.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

IDENTIFIER, NUMBER = r"[A-Za-z_]\w*", r"\d+"


@dataclass(frozen=True)
class Transform:
    """From a tensor of PyTorch to an array of Flax, and back."""

    forward: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray], np.ndarray]


SAME = Transform(lambda x: x, lambda x: x)
# Convolutions: out, in, height, width <-> height, width, in, out.
KERNEL = Transform(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
# Linear layers: out, in <-> in, out.
MATRIX = Transform(lambda x: x.T, lambda x: x.T)
# InPlace-ABN scales by |weight| + epsilon where BatchNorm scales by the weight.
ABN_EPSILON = np.float32(1e-5)
ABN_SCALE = Transform(lambda x: np.abs(x) + ABN_EPSILON, lambda x: x - ABN_EPSILON)


@dataclass(frozen=True)
class Entry:
    """A line of a table.

    An entry without `target` is for a tensor that the network does not compute with or, if it has
    `copy_of`, for a tensor that repeats the one of that name: the layer then has two names.
    """

    source: str
    target: str | None
    transform: Transform = SAME
    copy_of: str | None = None


@dataclass(frozen=True)
class Naming:
    """A table of names, its own name, and who uses it if that says more."""

    name: str
    entries: tuple[Entry, ...]
    users: str = ""

    def knows(self, source: str) -> bool:
        """Whether an entry fits a tensor's name."""
        return self._known.fullmatch(source) is not None

    @cached_property
    def _known(self) -> re.Pattern[str]:
        """All names in one expression without named groups, which is faster than one by one."""
        sources = [_pattern(entry.source).pattern for entry in self.entries]
        # A field that occurs again refers to its group by name, so that this name has to stay.
        known = [s if "(?P=" in s else re.sub(r"\?P<\w+>", "?:", s) for s in sources]
        return re.compile("|".join(known))

    def to_target(self, source: str, exists: Callable[[str], bool]) -> Entry | None:
        """The first entry that fits a tensor's name and leads to an array that exists, filled in.

        If none leads to one, the first that fits.
        """
        fitting = []
        for entry in _candidates(self._by_source, source):
            if match := _pattern(entry.source).fullmatch(source):
                fields = match.groupdict()
                target = entry.target and entry.target.format(**fields)
                copy_of = entry.copy_of and entry.copy_of.format(**fields)
                fitting.append(replace(entry, source=source, target=target, copy_of=copy_of))
        arrays = (entry for entry in fitting if entry.target is None or exists(entry.target))
        return next(arrays, fitting[0] if fitting else None)

    def to_source(self, target: str) -> Entry | None:
        """The first entry that fits an array's path, filled in."""
        for entry in _candidates(self._by_target, target):
            if match := _pattern(entry.target or "").fullmatch(target):
                source = entry.source.format(**match.groupdict())
                return replace(entry, source=source, target=target)
        return None

    def with_copies(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The tensors, and those that repeat them."""
        copies = {
            entry.source.format(**match.groupdict()): tensor
            for entry in self.entries
            if entry.copy_of is not None
            for name, tensor in tensors.items()
            if (match := _pattern(entry.copy_of).fullmatch(name))
        }
        return {**tensors, **copies}

    @cached_property
    def _by_source(self) -> "_Index":
        return _index([(entry.source, entry) for entry in self.entries])

    @cached_property
    def _by_target(self) -> "_Index":
        return _index([(entry.target, entry) for entry in self.entries if entry.target])


# Numbered entries: by name those whose templates have no fields, and a list of the others.
_Numbered = list[tuple[int, Entry]]
_Index = tuple[dict[str, _Numbered], _Numbered]


def _index(entries: list[tuple[str, Entry]]) -> _Index:
    names: dict[str, _Numbered] = {}
    others: _Numbered = []
    for number, (template, entry) in enumerate(entries):
        place = others if "{" in template else names.setdefault(template, [])
        place.append((number, entry))
    return names, others


def _candidates(index: _Index, text: str) -> list[Entry]:
    """The entries that may fit a text, in their order."""
    names, others = index
    found = [*names.get(text, ()), *others]
    return [entry for _, entry in sorted(found, key=lambda numbered: numbered[0])]


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts, seen = [], set()
    for literal, field in re.findall(r"([^{}]*)(?:\{(\w+)\})?", template):
        parts.append(re.escape(literal))
        if field in seen:
            parts.append(f"(?P={field})")
        elif field:
            seen.add(field)
            parts.append(f"(?P<{field}>{IDENTIFIER if field == 'name' else NUMBER})")
    return re.compile("".join(parts))


def conv(source: str, target: str) -> list[Entry]:
    """A convolution, with or without bias."""
    return [
        Entry(f"{source}.weight", f"params/{target}/kernel", KERNEL),
        Entry(f"{source}.bias", f"params/{target}/bias"),
    ]


def linear(source: str, target: str) -> list[Entry]:
    """A linear layer."""
    return [
        Entry(f"{source}.weight", f"params/{target}/kernel", MATRIX),
        Entry(f"{source}.bias", f"params/{target}/bias"),
    ]


def norm(source: str, target: str, scale: Transform = SAME) -> list[Entry]:
    """BatchNorm; its count of batches is not used, because the momentum is fixed."""
    return [
        Entry(f"{source}.weight", f"params/{target}/scale", scale),
        Entry(f"{source}.bias", f"params/{target}/bias"),
        Entry(f"{source}.running_mean", f"batch_stats/{target}/mean"),
        Entry(f"{source}.running_var", f"batch_stats/{target}/var"),
        Entry(f"{source}.num_batches_tracked", None),
    ]


def group_norm(source: str, target: str) -> list[Entry]:
    """GroupNorm, which has no statistics to keep."""
    return [
        Entry(f"{source}.weight", f"params/{target}/scale"),
        Entry(f"{source}.bias", f"params/{target}/bias"),
    ]


def conv_norm(source: str, target: str, scale: Transform = SAME) -> list[Entry]:
    """`layers.ConvBN`: convolution 0 and BatchNorm 1 of a `Sequential`."""
    return conv(f"{source}.0", f"{target}/conv") + norm(f"{source}.1", f"{target}/bn", scale)


def copies(entries: Iterable[Entry], module: str, repeated: str) -> list[Entry]:
    """Entries of tensors that repeat others, under the name of another module."""

    def move(entry: Entry) -> Entry:
        name = entry.source.removeprefix(repeated)
        return Entry(module + name, None, copy_of=entry.source)

    return [move(entry) for entry in entries]


def within(entries: Iterable[Entry], prefix: str, module: str) -> list[Entry]:
    """The same entries for a part of a network, by its prefix in the state dict and its module."""

    def move(path: str | None) -> str | None:
        if path is None:
            return None
        collection, rest = path.split("/", 1)
        return f"{collection}/{module}/{rest}"

    return [
        replace(
            entry,
            source=prefix + entry.source,
            target=move(entry.target),
            copy_of=entry.copy_of and prefix + entry.copy_of,
        )
        for entry in entries
    ]
