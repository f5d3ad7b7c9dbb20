"""One training at a time in a directory, even after a crash."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from ranet_jax.errors import UserError
from ranet_jax.files.mirror import mirrored
from ranet_jax.files.paths import as_path
from ranet_jax.training import lock

pytestmark = pytest.mark.slow

PROGRAM = """
import pathlib, sys, time
from ranet_jax.training.lock import locked

with locked(pathlib.Path(sys.argv[1])):
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


@pytest.fixture
def quick(monkeypatch):
    """Let the lock be signed every few hundredths of a second."""
    monkeypatch.setattr(lock, "SIGN_EVERY", 0.05)
    monkeypatch.setattr(lock, "SILENCE", 1.0)


def test_a_store_is_kept_for_one_training(bucket, quick, capsys):
    run = as_path(bucket.url("run"))
    with lock.locked(run):
        first = json.loads(bucket.files()["run/.lock"])
        assert first["owner"].startswith(f"process {os.getpid()} on ")
        with (
            pytest.raises(UserError, match=f"{run} is in use by another .*process"),
            lock.locked(run),
        ):
            pass
        assert json.loads(bucket.files()["run/.lock"])["token"] == first["token"]
    assert bucket.files() == {}
    assert capsys.readouterr().err == (
        f"ranet: {run} may be in use by a training; waiting 1 s to find out.\n"
    )


@pytest.mark.parametrize("ended", [False, True])
def test_a_training_that_was_stopped_finds_its_store_taken_and_sends_nothing(bucket, quick, ended):
    run = as_path(bucket.url("run"))
    with pytest.raises(UserError) as refusal, mirrored(run) as mirror, lock.locked(run) as check:
        mirror.check = check
        (mirror.local / "a").write_bytes(b"1")
        mirror.send()
        other = b'{"owner": "process 2 on elsewhere", "token": "1", "time": 0}'
        (signer,) = (t for t in threading.enumerate() if t.name == lock.SIGNER)
        while signer.is_alive():  # it may be about to overwrite the other's sign
            bucket.put("run/.lock", other)
            signer.join(0.1)
        if ended:
            bucket.client.delete_object(Bucket=bucket.name, Key="run/.lock")
        (mirror.local / "a").write_bytes(b"22")
    owner = "which has ended" if ended else "process 2 on elsewhere"
    said = f"{run} was taken over by another training ({owner})"
    assert str(refusal.value).startswith(said)
    assert f"are kept in {mirror.local.parent}." in str(refusal.value)
    assert (mirror.local / "a").read_bytes() == b"22"
    assert bucket.files("run/") == ({} if ended else {".lock": other}) | {"a": b"1"}
    shutil.rmtree(mirror.local.parent)


def test_a_lock_that_a_killed_training_left_on_a_store_is_taken(bucket, quick):
    bucket.put("run/.lock", b'{"owner": "process 1 on nowhere", "token": "0", "time": 0}')
    with lock.locked(as_path(bucket.url("run"))):
        assert b"nowhere" not in bucket.files()["run/.lock"]
    assert bucket.files() == {}


def test_of_two_that_start_at_once_on_a_store_one_goes_on(bucket, quick, monkeypatch):
    run = as_path(bucket.url("run"))
    write = lock.write_text

    def write_then_another(place, text):
        write(place, text)
        bucket.put("run/.lock", b'{"owner": "process 2 on elsewhere", "token": "1", "time": 0}')

    monkeypatch.setattr(lock, "write_text", write_then_another)
    with pytest.raises(UserError) as refusal, lock.locked(run):
        pass
    assert "in use by another training (process 2 on elsewhere)" in str(refusal.value)
    assert b"elsewhere" in bucket.files()["run/.lock"]
