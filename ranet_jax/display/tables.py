"""Tables: printed as Markdown to files and pipes, drawn in a terminal."""

import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

from ranet_jax.display.output import current_output


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table that is readable as text: first column aligned left, the others right.

    Each column is as wide as its longest cell:

        | head   | GMACs |
        |:-------|------:|
        | RANet  |  47.8 |
    """
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rules = [f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]
    texts = []
    for first, *others in lines:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        texts.append(f"| {' | '.join(cells)} |")
    return "\n".join([texts[0], f"|{'|'.join(rules)}|", *texts[1:]])


def show(report: str, in_terminal: str | None = None, asked_for: bool = True) -> None:
    """Print a report, with its tables drawn if standard output is a terminal.

    Nothing is printed if standard output is reserved for JSON, or if the command is quiet and the
    report is not its purpose.

    Args:
      report: text with tables of `table`, printed as it is if there is no terminal.
      in_terminal: text to print in a terminal instead; None for the same text.
      asked_for: whether the report is the purpose of the command.
    """
    output = current_output()
    if output.json or (output.quiet and not asked_for):
        return
    if sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        _draw(report if in_terminal is None else in_terminal)
    else:
        print(report, flush=True)


def _draw(report: str) -> None:
    """Print to a terminal in its full width; NO_COLOR and COLUMNS work as they do in rich."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    for is_table, lines in itertools.groupby(report.split("\n"), lambda line: line[:1] == "|"):
        if is_table:
            console.print(_drawn(list(lines)))
        else:
            print("\n".join(lines), flush=True)


def _drawn(lines: list[str]) -> Any:
    """A Markdown table as a table of rich; its lines unchanged if a cell holds a " | "."""
    from rich import box
    from rich.table import Table

    header, *rows = [line[2:-2].split(" | ") for line in [lines[0], *lines[2:]]]
    if any(len(row) != len(header) for row in rows):
        return "\n".join(lines)
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        justify: Any = "right" if number else "left"
        drawn.add_column(_cell(name.strip()), justify=justify, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(cell.strip()) for cell in row))
    return drawn


def _cell(text: str) -> Any:
    from rich.text import Text

    is_bold = text.startswith("**") and text.endswith("**")
    return Text(text.strip("*"), style="bold") if is_bold else Text(text)
