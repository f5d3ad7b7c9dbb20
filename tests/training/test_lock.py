"""One training at a time in a directory, also after a crash."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from ranet_jax.errors import UserError
from ranet_jax.training import lock

PROGRAM = """
import sys, time
from ranet_jax.training.lock import locked

with locked(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(100)
"""


def test_another_process_is_kept_out_until_it_is_killed(tmp_path):
    workdir = tmp_path / "run"
    other = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(workdir)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "locked\n"
    with (
        pytest.raises(UserError, match=f"run is in use by another .*process {other.pid} on"),
        lock.locked(workdir),
    ):
        pass
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with (
        lock.locked(workdir),
        pytest.raises(UserError, match=f"process {os.getpid()} on"),
        lock.locked(workdir),
    ):
        pass
    with lock.locked(workdir):
        pass


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys, error):
    def refuse(file, operation):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock.locked(tmp_path):
        pass
    told = capsys.readouterr().err
    assert told.startswith(
        f"ranet: The file system of {tmp_path} has no locks ({os.strerror(error)}"
    )
    assert len(told.splitlines()) == 1


def test_a_directory_that_cannot_be_written_to(tmp_path):
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    said = r"lock cannot be written \(Is a directory\)"
    with pytest.raises(UserError, match=said), lock.locked(tmp_path / "run"):
        pass
