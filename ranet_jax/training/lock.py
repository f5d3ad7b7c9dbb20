"""One training at a time in a working directory."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

import jax

from ranet_jax.checkpoints.steps import tell
from ranet_jax.errors import UserError
from ranet_jax.files import explained, make_directory, reason

FILE = ".lock"


@contextlib.contextmanager
def locked(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other trainings out of a working directory, which is made if it is missing.

    The lock is on an open file, so that it ends with the process, however that ends. The first
    host holds it. Where the file system has no locks, standard error says so.

    Raises:
      UserError: another training is under way, or the directory cannot be written to.
    """
    if jax.process_index() != 0:
        yield
        return
    directory = pathlib.Path(workdir)
    make_directory(directory, "working directory")
    with contextlib.ExitStack() as stack:
        with explained(directory / FILE, "make room or choose another working directory"):
            file = stack.enter_context((directory / FILE).open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"{directory} is in use by another training ({file.read(200).strip()}); wait until"
                " it has ended, or choose another working directory."
            ) from error
        except OSError as error:
            tell(
                f"The file system of {directory} has no locks ({reason(error)}); see to it that no"
                " other training writes there."
            )
        with contextlib.suppress(OSError):  # for the sentence above alone
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
