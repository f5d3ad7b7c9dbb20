"""A field of the config: its default, the values it accepts, and what it affects."""

import dataclasses
import math
from typing import Any, Literal

# What another value of a field changes, from the most to the least:
# - "weights": the network, so that trained weights no longer fit it;
# - "training": what a training learns from the next step on;
# - "scores": the scores at the end of a run, but not what it learns after a checkpoint;
# - "running": only how a run is carried out and observed.
Effect = Literal["weights", "training", "scores", "running"]


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`.

    Attributes:
      low: the smallest number; with `above`, numbers must be larger than it.
      high: the largest number; with `below`, numbers must be smaller than it.
      whole: whole numbers only.
      odd: of the whole numbers, only the odd ones.
    """

    low: int | float
    high: int | float
    above: bool = False
    below: bool = False
    whole: bool = False
    odd: bool = False

    def holds(self, number: Any) -> bool:
        """Whether a value is a number in the range; NaN and booleans are in no range."""
        if type(number) is not int and (self.whole or type(number) is not float):
            return False
        high_enough = number > self.low if self.above else number >= self.low
        low_enough = number < self.high if self.below else number <= self.high
        return high_enough and low_enough and not (self.odd and number % 2 == 0)

    @property
    def one(self) -> str:
        """A number of the range in words, such as "a whole number from 1 to 9"."""
        return f"{'an odd' if self.odd else 'a whole' if self.whole else 'a'} number {self._limits}"

    @property
    def many(self) -> str:
        """Numbers of the range in words, such as "whole numbers from 1 to 9"."""
        return f"{'odd ' if self.odd else 'whole ' if self.whole else ''}numbers {self._limits}"

    @property
    def _limits(self) -> str:
        if self.above:
            return f"above {self.low} and {'below' if self.below else 'up to'} {self.high}"
        return f"from {self.low} {'up to, but not including,' if self.below else 'to'} {self.high}"


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of the config.

    Attributes:
      default: its value if nothing sets it. If it is a tuple, a value has as many entries as the
        default; if the default has one entry, one or more; if it is empty, any number. If it is
        None, other values are numbers if there is a range, and text if there is none.
      effect: what another value changes.
      meaning: description in one sentence.
      range: range of the number, or of every number in the tuple.
      choices: the texts it accepts; empty if it accepts any text, or if the part of the package
        that uses the field checks it.
      ascending: whether the numbers of the tuple must not decrease.
      pairs: whether the entries of the tuple are pairs of a text and a number.
    """

    default: Any
    effect: Effect
    meaning: str
    range: Range | None = None
    choices: tuple[str, ...] = ()
    ascending: bool = False
    pairs: bool = False

    @property
    def kind(self) -> type:
        """Type of its values, other than None."""
        if self.default is not None:
            return type(self.default)
        if self.range is None:
            return str
        return int if self.range.whole else float

    @property
    def allowed(self) -> str:
        """The values it accepts, in words that can follow "choose"."""
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        if self.range is None:
            text = "True or False" if self.kind is bool else "text"
        elif self.pairs:
            text = f"pairs of a text and {self.range.one}"
        elif self.kind is tuple:
            count = {0: "", 1: "one or more "}.get(len(self.default), f"{len(self.default)} ")
            text = f"{count}{self.range.many}{', the smaller first' if self.ascending else ''}"
        else:
            text = self.range.one
        return f"{text}, or None" if self.default is None else text

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value, such as "is nan" or "holds 0"; None if it is allowed."""
        if value is None:
            allowed = self.default is None
        elif self.kind is tuple:
            wrong = [entry for entry in _entries(value) if not self._holds_entry(entry)]
            if wrong:
                return f"holds {shown(wrong[0])}"
            allowed = self._fits(value)
        elif self.range is not None:
            allowed = self.range.holds(value)
        elif self.choices:
            allowed = value in self.choices
        else:
            allowed = type(value) is self.kind
        return None if allowed else f"is {shown(value)}"

    def _holds_entry(self, entry: Any) -> bool:
        if self.pairs:
            pair = _entries(entry)
            if len(pair) != 2 or not isinstance(pair[0], str):
                return False
            entry = pair[1]
        return self.range is not None and self.range.holds(entry)

    def _fits(self, values: Any) -> bool:
        """Whether a value is a tuple or list of an allowed length, in the required order."""
        if not isinstance(values, list | tuple):
            return False
        count = len(self.default)
        fits = len(values) == count if count > 1 else len(values) >= count
        return fits and (not self.ascending or list(values) == sorted(values))


def _entries(value: Any) -> Any:
    """The entries of a list or tuple; empty for any other value."""
    return value if isinstance(value, list | tuple) else ()


def shown(value: Any) -> str:
    """A value as text for messages; long texts are cut, huge integers described by their length."""
    if isinstance(value, int) and value.bit_length() > 128:
        sign = "negative " if value < 0 else ""
        return f"a {sign}number of about {math.ceil(value.bit_length() * math.log10(2))} digits"
    if isinstance(value, list | tuple):
        entries = ", ".join(map(shown, value[:20])) + (", ..." if len(value) > 20 else "")
        return f"({entries},)" if len(value) == 1 else f"({entries})"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
