"""One training at a time in a working directory."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import jax
from etils import epath

from ranet_jax.checkpoints.steps import tell
from ranet_jax.errors import UserError
from ranet_jax.files import explained, make_directory, paths, reason, write_text

FILE = ".lock"
# On an object store: seconds between two signs of life of a training, and seconds without a sign
# after which the training counts as ended.
SIGN_EVERY, SILENCE = 10.0, 45.0
SIGNER = "signs of a training"  # name of the thread that writes them


@contextlib.contextmanager
def locked(directory: paths.Path) -> Iterator[Callable[[], None]]:
    """Keep other trainings out of a working directory, which is made if it is missing.

    Yield a function that raises `UserError` if the directory no longer belongs to this training: on
    an object store, another training takes over the lock of one that was stopped or disconnected
    for a while.

    The first host holds the lock. It is a lock on an open file, so that it is released when the
    process ends, however it ends. If the file system has no locks, a message on standard error says
    so. On an object store, the file is rewritten as long as the training runs; a file that stays
    the same belongs to a training that has ended.

    Raises:
      UserError: another training is under way, or the directory cannot be written to.
    """
    if jax.process_index() != 0:
        yield lambda: None
    elif paths.is_store(directory):
        with _signs(directory) as check:
            yield check
    else:
        with _file_lock(directory):
            yield lambda: None


@contextlib.contextmanager
def _file_lock(directory: pathlib.Path) -> Iterator[None]:
    make_directory(directory, "working directory")
    with contextlib.ExitStack() as stack:
        with explained(directory / FILE, "make room or choose another working directory"):
            file = stack.enter_context((directory / FILE).open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _in_use(directory, file.read(200)) from error
        except OSError as error:
            tell(
                f"The file system of {directory} has no locks ({reason(error)}); make sure that"
                " no other training writes there."
            )
        with contextlib.suppress(OSError):  # needed only for the message of other trainings
            file.truncate(0)
            file.write(_this_process())
            file.flush()
        yield


@contextlib.contextmanager
def _signs(directory: epath.Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a directory on a store; yield a function that checks that it is held."""
    place, token = directory / FILE, uuid.uuid4().hex
    over = threading.Event()

    def check() -> None:
        if token not in (found := _read(place)):
            other = _owner(found) or "which has ended"
            raise UserError(
                f"{directory} was taken over by another training ({other}) while this one did not"
                " respond; end one of them."
            )

    def sign() -> None:
        fields = {"owner": _this_process(), "token": token, "time": time.time()}
        write_text(place, json.dumps(fields))

    def go_on() -> None:
        while not over.wait(SIGN_EVERY):
            try:
                check()
                sign()
            except UserError:  # the next checkpoint reports it
                return
            except OSError:  # writing the next sign may succeed
                continue

    with explained(place, "choose another working directory"):
        if found := _read(place):
            tell(f"{directory} may be in use by a training; waiting {SILENCE:g} s to find out.")
            time.sleep(SILENCE)
            if _read(place) not in ("", found):
                raise _in_use(directory, _owner(found))
        sign()
        time.sleep(min(1.0, SIGN_EVERY))  # a training that starts just now signs meanwhile
        if token not in (now := _read(place)):
            raise _in_use(directory, _owner(now))
    thread = threading.Thread(target=go_on, name=SIGNER, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError, UserError):  # it expires soon, or is another's
            check()
            paths.remove(place)


def _read(place: epath.Path) -> str:
    try:
        return paths.read_bytes(place).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _owner(text: str) -> str:
    try:
        return str(json.loads(text)["owner"])
    except (ValueError, TypeError, KeyError):
        return text


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _in_use(directory: paths.Path, owner: str) -> UserError:
    return UserError(
        f"{directory} is in use by another training ({owner.strip()[:200]}); wait until it has"
        " ended, or choose another working directory."
    )
