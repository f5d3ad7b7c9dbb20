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
# On an object store, seconds between the signs of a training that it is under way, and those
# without a sign after which it counts as ended.
SIGN_EVERY, SILENCE = 10.0, 45.0
SIGNER = "signs of a training"  # name of a thread


@contextlib.contextmanager
def locked(directory: paths.Path) -> Iterator[Callable[[], None]]:
    """Keep other trainings out of a working directory, which is made if it is missing.

    Yield what sees that the directory is still this training's, and raises `UserError` if not: on a
    store, another training takes the lock of one that was stopped or cut off for a while.

    The lock is on an open file, so that it ends with the process, however that ends. The first
    host holds it. Where the file system has no locks, standard error says so. On an object store
    the file is written anew while training goes on: one that stays the same is of a training that
    has ended.

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
                f"The file system of {directory} has no locks ({reason(error)}); see to it that no"
                " other training writes there."
            )
        with contextlib.suppress(OSError):  # for the sentence of others alone
            file.truncate(0)
            file.write(_this_process())
            file.flush()
        yield


@contextlib.contextmanager
def _signs(directory: epath.Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a directory on a store; yield what sees that it is still held."""
    place, token = directory / FILE, uuid.uuid4().hex
    over = threading.Event()

    def check() -> None:
        if token not in (found := _read(place)):
            other = _owner(found) or "which has ended"
            raise UserError(
                f"{directory} was taken over by another training ({other}) while this one gave no"
                " sign; end one of them."
            )

    def sign() -> None:
        fields = {"owner": _this_process(), "token": token, "time": time.time()}
        write_text(place, json.dumps(fields))

    def go_on() -> None:
        while not over.wait(SIGN_EVERY):
            try:
                check()
                sign()
            except UserError:  # which the next checkpoint tells
                return
            except OSError:  # the next sign may be written
                continue

    with explained(place, "choose another working directory"):
        if found := _read(place):
            tell(f"{directory} may be in use; waiting {SILENCE:g} s for a sign of its training.")
            time.sleep(SILENCE)
            if _read(place) not in ("", found):
                raise _in_use(directory, _owner(found))
        sign()
        time.sleep(min(1.0, SIGN_EVERY))  # in which another one that starts just now signs too
        if token not in (now := _read(place)):
            raise _in_use(directory, _owner(now))
    thread = threading.Thread(target=go_on, name=SIGNER, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError, UserError):  # it counts as ended soon, or is another's
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
