"""What a command says besides its result, as its options `--quiet` and `--json` have it."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator

from tqdm import tqdm


@dataclasses.dataclass(frozen=True)
class Output:
    """How much is said: everything, unless a command was told otherwise.

    Attributes:
      quiet: neither information nor progress.
      json: the result is one JSON document, and nothing else is on standard output.
    """

    quiet: bool = False
    json: bool = False


_outputs = [Output()]


def current_output() -> Output:
    """That of the innermost `with_output`."""
    return _outputs[-1]


@contextlib.contextmanager
def with_output(output: Output) -> Iterator[None]:
    """Within this, in all threads, so much is said."""
    _outputs.append(output)
    try:
        yield
    finally:
        _outputs.pop()


def tell(text: str) -> None:
    """Print information on standard output, or on standard error where that is for JSON."""
    output = current_output()
    if not output.quiet:
        stream = sys.stderr if output.json else sys.stdout
        tqdm.write(text, file=stream)
        stream.flush()


def note(sentence: str) -> None:
    """Print information on standard error, as what goes on behind a command."""
    if not current_output().quiet:
        tqdm.write(f"ranet: {sentence}", file=sys.stderr)
        sys.stderr.flush()
