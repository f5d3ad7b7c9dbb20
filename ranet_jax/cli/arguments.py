"""What the arguments of several commands have in common."""

import argparse
from typing import Any

from ranet_jax.errors import UserError
from ranet_jax.files.paths import as_path

OVERRIDING = "Fields of the config can be set with --config.SECTION.FIELD=VALUE."


def with_examples(*examples: str, overriding: bool = False) -> dict[str, Any]:
    """Settings of a command's parser that end its help with examples.

    Args:
      examples: what one may type, each a line.
      overriding: say that fields of the config can be set too.
    """
    lines = ["examples:", *(f"  {example}" for example in examples)]
    return {
        "epilog": "\n".join([*lines, "", OVERRIDING] if overriding else lines),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


class PathText(str):
    """The text of an argument that is a path."""


def convert_paths(arguments: argparse.Namespace) -> None:
    """Put paths in place of the texts that name them.

    Raises:
      UserError: one is of a store that is not reached.
    """
    for name, value in vars(arguments).items():
        if isinstance(value, PathText):
            setattr(arguments, name, as_path(value))
        elif isinstance(value, list):
            converted = [as_path(each) if isinstance(each, PathText) else each for each in value]
            setattr(arguments, name, converted)


def refuse(arguments: argparse.Namespace, options: tuple[str, ...], why: str) -> None:
    """Raise `UserError` if one of the options is given."""
    for option in options:
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value is not None and value is not False:
            raise UserError(f"{option} {why}; leave it out.")
