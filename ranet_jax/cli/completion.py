"""The option that prints a script with which a shell completes `ranet` command lines."""

import argparse
from typing import Any

from ranet_jax.cli.arguments import PathText, path_or_camera

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """Print the script for a shell, generated from the parser itself, and exit."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        """Print the script, and exit with status 0."""
        import shtab

        _complete_paths(parser, shtab.FILE)
        print(shtab.complete(parser, values))
        parser.exit()


def _complete_paths(parser: argparse.ArgumentParser, files: Any) -> None:
    """Mark the arguments of the parser and its commands that are paths, so they are completed."""
    action: Any
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, files)
        elif action.type in (PathText, path_or_camera):
            action.complete = files
