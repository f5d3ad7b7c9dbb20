"""What the arguments of several commands have in common."""

import argparse

from ranet_jax.errors import UserError

OVERRIDING = "Fields of the config can be set with --config.SECTION.FIELD=VALUE."


def refuse(arguments: argparse.Namespace, options: tuple[str, ...], why: str) -> None:
    """Raise `UserError` if one of the options is given."""
    for option in options:
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value is not None and value is not False:
            raise UserError(f"{option} {why}; leave it out.")
