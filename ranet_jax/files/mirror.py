"""Local copies of object store directories, whose changes are sent back to the store."""

import contextlib
import errno
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator

from etils import epath

from ranet_jax.errors import UserError
from ranet_jax.files import paths, reason, stores


class Mirror:
    """A local directory and, optionally, a directory on a store to which its changes are sent.

    Files and directories whose names begin with a dot are not sent.

    Attributes:
      local: the directory to work in.
      sends: whether this process is the one that sends.
      check: function that raises `UserError` if nothing more may be sent.
    """

    def __init__(self, local: pathlib.Path, remote: epath.Path | None, last: str):
        self.local, self._remote, self._last = local, remote, last
        self.sends, self._closed = True, False
        self.check: Callable[[], None] = lambda: None
        self._sent: dict[str, tuple[int, int]] = {}
        self._fetched: dict[str, tuple[int, str]] = {}

    def fetch(self, left_out: tuple[str, ...]) -> None:
        """Copy the contents of the store's directory, except for the directories `left_out`.

        Raises:
          OSError: the store cannot be read, or the copy cannot be written.
        """
        if self._remote is not None:
            self._fetched = stores.list_files(self._remote)
            stores.download(self._remote, self.local, left_out)
            self.local.mkdir(exist_ok=True)
            self._sent = self._found()

    def check_unchanged(self) -> None:
        """Check that the store's directory has not changed since `fetch`, except for hidden names.

        Raises:
          UserError: another program has changed it, or the store cannot be read.
        """
        if self._remote is None:
            return
        try:
            found = stores.list_files(self._remote)
        except OSError as error:
            raise UserError(
                f"{self._remote} cannot be read ({reason(error)}); fix this, then run the same"
                " command again."
            ) from error
        changed = [
            name
            for name in sorted(found.keys() | self._fetched.keys())
            if not _is_hidden(name) and found.get(name) != self._fetched.get(name)
        ]
        if changed:
            raise UserError(
                f"{self._remote / changed[0]} was changed by another program during this run;"
                " run the same command again when that program has ended."
            )

    def send(self) -> None:
        """Send the files that are new or changed since the last time.

        Files that were deleted together with their directory are removed from the store. Files at
        the top level are sent before those in subdirectories; in both groups, files named `last`
        are sent after all others.

        Raises:
          OSError: the store cannot be written, or the copy is gone.
          UserError: `check` refuses further writes.
        """
        if self._remote is None or not self.sends:
            return
        if not self.local.is_dir():
            raise FileNotFoundError(errno.ENOENT, "its copy was removed", str(self.local))
        found = self._found()
        changed = [name for name, state in found.items() if state != self._sent.get(name)]
        gone = [name for name in self._sent.keys() - found.keys() if self._is_removed(name)]
        if not changed and not gone:
            return
        self.check()
        for name in sorted(changed, key=self._order):
            stores.upload(self.local / name, self._remote / name)
            self._sent[name] = found[name]
        for name in gone:
            with contextlib.suppress(FileNotFoundError):
                stores.remove(self._remote / name)
            del self._sent[name]

    def close(self) -> None:
        """Send a last time and remove the copy; if sending fails, the copy is kept and named.

        Raises:
          UserError: not everything could be sent.
        """
        if self._remote is None or self._closed:
            return
        self._closed = True
        kept = self.local.parent
        try:
            self.send()
        except OSError as error:
            raise UserError(
                f"{self._remote} cannot be written ({reason(error)}); the files that it lacks are"
                f" kept in {kept}: copy them to the store, once it can be written."
            ) from error
        except UserError as error:
            raise UserError(f"{error} The files of this run are kept in {kept}.") from error
        except BaseException:
            print(
                f"ranet: The files that {self._remote} lacks are kept in {kept}.", file=sys.stderr
            )
            raise
        shutil.rmtree(kept, ignore_errors=True)

    def _is_removed(self, name: str) -> bool:
        """Whether a file was deleted with its directory, not alone as by a cleaner of old files."""
        return not (self.local / name).parent.is_dir()

    def _order(self, name: str) -> tuple[bool, bool, str]:
        path = pathlib.PurePosixPath(name)
        return len(path.parts) > 1, path.name == self._last, name

    def _found(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each local file, by name, to tell versions apart."""
        found = {}
        for path in self.local.rglob("*"):
            name = path.relative_to(self.local).as_posix()
            if not _is_hidden(name) and path.is_file():
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns)
        return found


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


@contextlib.contextmanager
def mirrored(path: paths.Path, last: str = "", left_out: tuple[str, ...] = ()) -> Iterator[Mirror]:
    """Yield the mirror of a directory; a local directory is used as it is, without a copy.

    The copy of a directory on a store begins with the directory's contents and is closed at the
    end, with or without an exception. Errors name the directory, not its copy.

    Args:
      path: the directory, which may be missing.
      last: name of the files that mark a directory as complete and so are sent last.
      left_out: directories in it that are not copied; new files in them are sent.

    Raises:
      UserError: the bucket is missing, or the store cannot be read or written.
    """
    if not paths.is_store(path):
        yield Mirror(path, None, last)
        return
    paths.check_bucket(path)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ranet_jax_"))
    mirror = Mirror(scratch / path.name, path, last)
    try:
        mirror.fetch(left_out)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(
            f"{path} cannot be copied to this machine ({reason(error)}); fix this, then run the"
            " same command again."
        ) from error
    try:
        yield mirror
    except UserError as error:
        error.args = (str(error).replace(str(mirror.local), str(path)),)
        raise
    finally:
        mirror.close()
