"""Files of a download, read from its archives or from the folder they were unpacked to."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ranet_jax.errors import UserError


class Download:
    """The files of one archive by their names in it.

    They are read from `ROOT/ARCHIVE`, a .zip, or from the folder `ROOT/FOLDER` it unpacks to, which
    counts first.

    Raises:
      UserError: there is neither, or the archive cannot be read.
    """

    def __init__(self, root: Path, archive: str, folder: str, homepage: str) -> None:
        self.path = root / folder
        self._archive: zipfile.ZipFile | None = None
        if self.path.is_dir():
            files = (p for p in self.path.rglob("*") if p.is_file())
            self.names = {p.relative_to(root).as_posix() for p in files}
            self._root = root
            return
        self.path = root / archive
        if not self.path.is_file():
            raise UserError(
                f"{self.path} is missing, and so is the folder {root / folder} it unpacks to;"
                f" download it from {homepage}."
            )
        try:
            self._archive = zipfile.ZipFile(self.path)
            self.names = set(self._archive.namelist())
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{self.path} cannot be read ({error}); download it again from {homepage}."
            ) from error

    @classmethod
    def exists(cls, root: Path, archive: str, folder: str) -> bool:
        """Whether there is the archive or its folder."""
        return (root / archive).is_file() or (root / folder).is_dir()

    def matching(self, pattern: str) -> Iterator[re.Match[str]]:
        """Matches of the names that fit a pattern as a whole, in the order of the names."""
        for name in sorted(self.names):
            match = re.fullmatch(pattern, name)
            if match is not None:
                yield match

    def read(self, name: str) -> bytes:
        """Contents of a file.

        Raises:
          UserError: it is missing or damaged.
        """
        if name not in self.names:
            raise UserError(f"{self.path} holds no {name}; download it again, whole.")
        try:
            if self._archive is None:
                return (self._root / name).read_bytes()
            return self._archive.read(name)
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{name} in {self.path} cannot be read ({error}); download it again."
            ) from error
