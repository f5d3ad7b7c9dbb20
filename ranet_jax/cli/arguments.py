"""What the arguments of several commands have in common."""

import argparse
import re
from typing import Any

from ranet_jax.errors import UserError
from ranet_jax.files.paths import as_path

OVERRIDING = "Fields of the config can be set with --config.SECTION.FIELD=VALUE."


def with_examples(*examples: str, overriding: bool = False) -> dict[str, Any]:
    """Settings of a command's parser that end its help with examples.

    Args:
      examples: command lines to show, one each.
      overriding: whether to say that fields of the config can be set too.
    """
    lines = ["examples:", *(f"  {example}" for example in examples)]
    return {
        "epilog": "\n".join([*lines, "", OVERRIDING] if overriding else lines),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


class Parser(argparse.ArgumentParser):
    """A parser of `ranet` or of one of its commands, with the options that all of them have."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        group = self.add_argument_group("output")
        # Without a default, so that a command's parser keeps what was given before the command.
        flag: dict[str, Any] = {"action": "store_true", "default": argparse.SUPPRESS}
        group.add_argument("-q", "--quiet", **flag, help="print neither progress nor information")
        group.add_argument("--json", **flag, help="print the result as one JSON document")


class PathText(str):
    """The text of an argument that is a path."""


class CameraText(str):
    """The text of an argument that is a camera or the address of a stream."""


def path_or_camera(text: str) -> PathText | CameraText:
    """Tell a path from a camera or the address of a stream, by the beginning of the text."""
    is_camera = re.match(r"camera:|/dev/|(https?|rtmps?|rts?p|srt|tcp|udp)://", text)
    return CameraText(text) if is_camera else PathText(text)


def convert_paths(arguments: argparse.Namespace) -> None:
    """Replace the texts that name paths with the paths themselves.

    Raises:
      UserError: a path is in a store that cannot be reached.
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
