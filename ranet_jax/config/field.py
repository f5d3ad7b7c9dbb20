"""What a field of the config is: its default, the values it takes, and what it changes."""

import dataclasses
import math
from typing import Any, Literal

# What another value of a field changes, from the most to the least:
# the network, so that trained weights no longer belong to it;
# what a training learns from the next step on;
# the scores that a run ends with, but not what it learns from a checkpoint on;
# or only how a run is carried out and looked at.
Effect = Literal["weights", "training", "scores", "running"]


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`.

    Attributes:
      low: the smallest number, or what numbers lie above if `above`.
      high: the largest number, or what numbers lie below if `below`.
      whole: whole numbers only.
      odd: of the whole numbers, the odd ones only.
    """

    low: int | float
    high: int | float
    above: bool = False
    below: bool = False
    whole: bool = False
    odd: bool = False

    def holds(self, number: Any) -> bool:
        """Whether a value is a number of the range; NaN and booleans are in none."""
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
      default: its value where nothing sets it. A tuple says how many entries there are: as many as
        it has, or one or more where it has one, or any number where it has none. None may be
        replaced by a number if there is a range, and by text if there is none.
      effect: what another value changes.
      meaning: one sentence.
      range: of the number, or of every number in the tuple.
      choices: the texts it takes; empty if it takes any, or the part of the package that uses the
        field knows them.
      ascending: whether the numbers of the tuple may not fall.
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
        """The values it takes, in words that can follow "choose"."""
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
        """Whether it is a tuple of as many entries as it must have, in the order they must have."""
        if not isinstance(values, list | tuple):
            return False
        count = len(self.default)
        fits = len(values) == count if count > 1 else len(values) >= count
        return fits and (not self.ascending or list(values) == sorted(values))


def _entries(value: Any) -> Any:
    """The entries of a list or tuple; none of anything else."""
    return value if isinstance(value, list | tuple) else ()


def shown(value: Any) -> str:
    """A value as a sentence can show it: long ones are cut, integers of many digits counted."""
    if isinstance(value, int) and value.bit_length() > 128:
        sign = "negative " if value < 0 else ""
        return f"a {sign}number of about {math.ceil(value.bit_length() * math.log10(2))} digits"
    if isinstance(value, list | tuple):
        entries = ", ".join(map(shown, value[:20])) + (", ..." if len(value) > 20 else "")
        return f"({entries},)" if len(value) == 1 else f"({entries})"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
