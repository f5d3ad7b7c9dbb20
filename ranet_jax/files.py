"""Small files that are whole or not there, and what images that are not whole raise."""

import json
import os
import pathlib
from typing import Any

from PIL import Image

from ranet_jax.errors import UserError

# What Pillow raises on files that are no image, are cut off or are absurdly large.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def check_json_output(path: str | os.PathLike[str], contents: str) -> None:
    """Refuse, before work is done for it, a path to which no JSON can be written.

    Raises:
      UserError: it does not end in .json, or its directory is missing.
    """
    path = pathlib.Path(path)
    if path.suffix != ".json" or path.is_dir():
        raise UserError(f"The {contents} go to a JSON file; {path} is none: end its name in .json.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"Directory {path.parent} for the {contents} is missing; make it first.")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON beside the path, then move it there in one step."""
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, path)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; name a directory that training wrote.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}); restore it from a copy.") from error
