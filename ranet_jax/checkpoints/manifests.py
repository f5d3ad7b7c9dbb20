"""Checksums stored with written files, so that a changed bit is found before the file is used.

A manifest lists the size in bytes and the CRC-32 of every file of its directory:

    {"files": {"variables/manifest.ocdbt": [114, 2772434102]}}
"""

import pathlib
import zlib

from ranet_jax.errors import UserError
from ranet_jax.files import paths, read_json, reason, write_json

MANIFEST = "manifest.json"
CHUNK = 2**22  # bytes read at a time


def write_manifest(directory: pathlib.Path) -> None:
    """Write the manifest of the files that a directory holds at any depth."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    write_json(
        directory / MANIFEST,
        {
            "files": {
                path.relative_to(directory).as_posix(): _measure(path)
                for path in files
                if path != directory / MANIFEST
            }
        },
    )


def add_to_manifest(directory: pathlib.Path, name: str) -> None:
    """Add a file that was written later to the directory's manifest, if it has one.

    Raises:
      UserError: the manifest cannot be read.
    """
    if (directory / MANIFEST).exists():
        files = _listed(directory) | {name: _measure(directory / name)}
        write_json(directory / MANIFEST, {"files": files})


def find_damage(directory: paths.Path, below: str = "") -> dict[str, str]:
    """What is wrong with the listed files, by name; empty if there is no manifest.

    Args:
      directory: directory that holds the manifest.
      below: look only at files whose names begin with this.
    """
    if not paths.exists(directory / MANIFEST):
        return {}
    try:
        listed = _listed(directory)
    except UserError:
        return {MANIFEST: "cannot be read"}
    wrong = {}
    for name, expected in listed.items():
        if not name.startswith(below):
            continue
        try:
            found = _measure(directory / name)
        except (OSError, ValueError) as error:
            wrong[name] = f"cannot be read: {reason(error)}"
            continue
        if found != expected:
            what = "size" if found[0] != expected[0] else "checksum"
            wrong[name] = f"has a different {what} than when it was written"
    return wrong


def _listed(directory: paths.Path) -> dict[str, list[int]]:
    fields = read_json(directory / MANIFEST)
    files = fields.get("files") if isinstance(fields, dict) else None
    if not isinstance(files, dict) or not files:
        raise UserError(f"{directory / MANIFEST} lists no files; restore it from a copy.")
    return files


def _measure(path: paths.Path) -> list[int]:
    """Size and CRC-32 of a file; a file on a store is read into memory whole."""
    if paths.is_store(path):
        contents = paths.read_bytes(path)
        return [len(contents), zlib.crc32(contents)]
    size = checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return [size, checksum]
