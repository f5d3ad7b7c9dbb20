"""Progress on standard error: a bar in a terminal, a line now and then elsewhere."""

import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Sized
from typing import Any, ClassVar

from tqdm import tqdm

from ranet_jax.display.output import current_output

LINE_SECONDS = 30.0


class Bar(tqdm):
    """tqdm's bar in a terminal."""

    def leave_out(self, seconds: float) -> None:
        """Leave the last `seconds` out of the elapsed time and the estimate of the time left."""
        if not self.disable:
            self.start_t += seconds
            self.last_print_t += seconds


class Lines:
    """A line for a log file, at most every `LINE_SECONDS` and at the end.

    It has those methods of a `Bar` that this package calls. If `leave` is False, there is no line
    at the end; if it is None, there is one unless this progress began while another was under way.
    """

    _under_way: ClassVar[weakref.WeakSet["Lines"]] = weakref.WeakSet()

    def __init__(
        self,
        iterable: Iterable[Any] | None,
        desc: str,
        unit: str,
        total: int | None,
        initial: int,
        leave: bool | None,
        pace: bool = False,
    ):
        self._ends_with_line = not self._under_way if leave is None else leave
        self._under_way.add(self)
        self.n = initial
        self._iterable, self._total = iterable, total
        self._name, self._unit, self._pace, self._initial = desc, unit, pace, initial
        self._start = self._line_time = time.monotonic()
        self._line_n, self._postfix, self._told = initial, "", False

    def __iter__(self) -> Iterator[Any]:
        with self:
            for item in self._iterable or ():
                yield item
                self.update(1)

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def update(self, count: int) -> None:
        """Count `count` more units as done."""
        self.n += count
        self._told = False
        if time.monotonic() - self._line_time >= LINE_SECONDS:
            self._tell()

    def set_postfix_str(self, postfix: str) -> None:
        """Set the words for the end of the next line."""
        self._postfix = postfix

    def leave_out(self, seconds: float) -> None:
        """Leave the last `seconds` out of the elapsed time and the estimate of the time left."""
        self._start += seconds
        self._line_time += seconds

    def close(self) -> None:
        """Stop, and print a final line if one is wanted and some progress is not reported yet."""
        self._under_way.discard(self)
        if self._ends_with_line and self.n and not self._told:
            self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        done = f"{self.n}" if self._total is None else f"{self.n}/{self._total}"
        words = [f"{done} {self._unit}s", f"{tqdm.format_interval(now - self._start)} elapsed"]
        if self._total is not None and self._line_n < self.n < self._total:
            pace = (now - self._line_time) / (self.n - self._line_n)
            words.append(f"{tqdm.format_interval(pace * (self._total - self.n))} left")
        if self._pace:
            per_second = (self.n - self._initial) / max(now - self._start, 1e-9)
            words.append(f"{per_second:.1f} {self._unit}s/s")
        if self._postfix:
            words.append(self._postfix)
        print(f"{self._name}: {', '.join(words)}", file=sys.stderr, flush=True)
        self._line_time, self._line_n, self._told = now, self.n, True


def track(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    leave: bool | None = True,
    hidden: bool = False,
    pace: bool = False,
) -> Bar | Lines:
    """Show progress over an iterable, or by calls of `update` if there is none.

    Args:
      iterable: what to iterate over.
      desc: what is done, such as "predict".
      unit: what is counted, in the singular.
      total: number of units; the length of the iterable if not given.
      initial: how many of them were done before.
      leave: keep the bar, or write a line, at the end; None does so unless it is below another.
      pace: show in lines how many units were done per second, as a bar always does.
      hidden: show nothing, as in a quiet command.
    """
    hidden = hidden or current_output().quiet
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if hidden or sys.stderr.isatty():
        options = {"total": total, "initial": initial, "leave": leave, "disable": hidden}
        return Bar(iterable, desc=desc, unit=unit, **options)
    return Lines(iterable, desc, unit, total, initial, leave, pace)
