"""Tables in Markdown."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table that reads well as it is: the first column to the left, others to the right.

    The width of a column is that of its longest cell:

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
