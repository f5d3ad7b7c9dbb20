"""What the arguments of several commands have in common."""

import argparse
import os

from ranet_jax.errors import UserError
from ranet_jax.files.paths import as_path

OVERRIDING = "Fields of the config can be set with --config.SECTION.FIELD=VALUE."


class PathText(str):
    """The text of an argument that is a path."""


def path_text(text: str) -> PathText:
    """The argument with its leading `~` expanded, which shells do not do after `--option=`."""
    return PathText(os.path.expanduser(text))


def check_paths(arguments: argparse.Namespace) -> None:
    """Raise `UserError`, before anything is done, if a path is of a store that is not reached."""
    for value in vars(arguments).values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, PathText):
                as_path(each)


def refuse(arguments: argparse.Namespace, options: tuple[str, ...], why: str) -> None:
    """Raise `UserError` if one of the options is given."""
    for option in options:
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value is not None and value is not False:
            raise UserError(f"{option} {why}; leave it out.")
