"""A working directory on an object store: what is sent and when, what is left out or kept."""

import shutil

import pytest

from ranet_jax.errors import UserError
from ranet_jax.files import stores
from ranet_jax.files.mirror import mirrored
from ranet_jax.files.paths import as_path


def sent(bucket, monkeypatch):
    """Names in the order in which they are sent."""
    names, upload = [], stores.upload

    def note(source, path, *rest):
        names.append(str(path).removeprefix(bucket.url()))
        upload(source, path, *rest)

    monkeypatch.setattr(stores, "upload", note)
    return names


def test_a_local_directory_is_worked_in_itself(tmp_path):
    with mirrored(tmp_path) as mirror:
        assert mirror.local is tmp_path
        mirror.check_unchanged()
        mirror.send()


@pytest.mark.slow
def test_changes_are_sent_and_nothing_else(bucket, monkeypatch):
    for name in ("a", "b/c", "board/old", ".lock", "d/e/f"):
        bucket.put(f"run/{name}", b"1")
    names = sent(bucket, monkeypatch)
    with mirrored(as_path(bucket.url("run")), "last", ("board",)) as mirror:
        assert (mirror.local / "b/c").read_bytes() == b"1"
        assert not (mirror.local / "board").exists()
        mirror.send()
        assert names == []
        (mirror.local / "b/last").write_bytes(b"2")
        (mirror.local / "b/new").write_bytes(b"2")
        (mirror.local / "z").write_bytes(b"2")
        (mirror.local / ".b.partial").mkdir()
        (mirror.local / ".b.partial/x").write_bytes(b"2")
        shutil.rmtree(mirror.local / "d")
        (mirror.local / "b/c").unlink()  # as programs that clean up temporary files do
        mirror.send()
        assert names == ["run/z", "run/b/new", "run/b/last"]
        (mirror.local / "a").write_bytes(b"34")
    assert names[3:] == ["run/a"]
    assert not mirror.local.exists()
    assert bucket.files("run/") == {
        ".lock": b"1",
        "a": b"34",
        "b/c": b"1",
        "b/last": b"2",
        "b/new": b"2",
        "board/old": b"1",
        "z": b"2",
    }


def test_what_was_written_is_sent_whatever_ends_the_work(bucket):
    with pytest.raises(KeyboardInterrupt), mirrored(as_path(bucket.url("run"))) as mirror:
        (mirror.local / "a").write_bytes(b"1")
        raise KeyboardInterrupt
    assert bucket.files() == {"run/a": b"1"}


def test_errors_name_the_directory_and_not_its_copy(bucket):
    path = as_path(bucket.url("run"))
    with pytest.raises(UserError, match=f"^{path}/a is wrong"), mirrored(path) as mirror:
        raise UserError(f"{mirror.local}/a is wrong.")


def test_what_cannot_be_sent_is_kept_here(bucket, monkeypatch):
    def refuse(source, path, *rest):
        raise OSError(5, "No answer", str(path))

    monkeypatch.setattr(stores, "upload", refuse)
    path = as_path(bucket.url("run"))
    with pytest.raises(UserError) as refusal, mirrored(path) as mirror:
        (mirror.local / "a").write_bytes(b"1")
    assert str(refusal.value).startswith(f"{path} cannot be written (No answer)")
    assert f"are kept in {mirror.local.parent}:" in str(refusal.value)
    assert (mirror.local / "a").read_bytes() == b"1"


def test_another_program_that_writes_meanwhile_is_found(bucket):
    bucket.put("run/a", b"1")
    with mirrored(as_path(bucket.url("run"))) as mirror:
        bucket.put("run/.lock", b"of this program")
        mirror.check_unchanged()
        bucket.put("run/a", b"2")
        with pytest.raises(UserError, match=f"{bucket.url('run')}/a was changed by another"):
            mirror.check_unchanged()


def test_a_copy_that_is_gone_removes_nothing_from_the_store(bucket):
    bucket.put("run/a/b", b"1")
    path = as_path(bucket.url("run"))
    with pytest.raises(UserError) as refusal, mirrored(path) as mirror:
        shutil.rmtree(mirror.local)
    assert str(refusal.value).startswith(f"{path} cannot be written (its copy was removed)")
    assert bucket.files() == {"run/a/b": b"1"}


def test_an_interrupt_while_the_last_is_sent_keeps_it(bucket, monkeypatch, capsys):
    def interrupt(source, path, *rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(stores, "upload", interrupt)
    path = as_path(bucket.url("run"))
    with pytest.raises(KeyboardInterrupt), mirrored(path) as mirror:
        (mirror.local / "a").write_bytes(b"1")
    kept = mirror.local.parent
    assert capsys.readouterr().err == f"ranet: The files that {path} lacks are kept in {kept}.\n"
    assert (mirror.local / "a").read_bytes() == b"1"
    shutil.rmtree(kept)


def test_a_process_that_does_not_send_sends_nothing(bucket):
    with mirrored(as_path(bucket.url("run"))) as mirror:
        mirror.sends = False
        (mirror.local / "a").write_bytes(b"1")
    assert bucket.files() == {}
    assert not mirror.local.exists()
