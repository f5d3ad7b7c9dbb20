"""What a command prints besides its result, depending on its options `--quiet` and `--json`."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator

from tqdm import tqdm


@dataclasses.dataclass(frozen=True)
class Output:
    """How much a command prints: everything by default.

    Attributes:
      quiet: print neither information nor progress.
      json: the result is one JSON document, and nothing else is on standard output.
    """

    quiet: bool = False
    json: bool = False


_outputs = [Output()]


def current_output() -> Output:
    """The `Output` of the innermost `with_output`."""
    return _outputs[-1]


@contextlib.contextmanager
def with_output(output: Output) -> Iterator[None]:
    """Use an `Output` within a `with` block, in all threads."""
    _outputs.append(output)
    try:
        yield
    finally:
        _outputs.pop()


def tell(text: str) -> None:
    """Print information on standard output, or on standard error if the result is JSON."""
    output = current_output()
    if not output.quiet:
        stream = sys.stderr if output.json else sys.stdout
        tqdm.write(text, file=stream)
        stream.flush()


def note(sentence: str) -> None:
    """Print information on standard error, about what goes on in the background of a command."""
    if not current_output().quiet:
        tqdm.write(f"ranet: {sentence}", file=sys.stderr)
        sys.stderr.flush()
