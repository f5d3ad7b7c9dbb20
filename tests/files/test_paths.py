"""Paths as users write them: local ones become pathlib paths, those on stores etils paths."""

import pathlib
import sys

import pytest
from etils import epath

from ranet_jax.errors import UserError
from ranet_jax.files import paths
from ranet_jax.files.paths import as_path


@pytest.mark.parametrize(
    "text", ["runs/demo", "/a/b.c", "./x/../y", "a:b", "a:/b", "x~", "~no-such-user/x"]
)
def test_a_local_path_is_pathlibs(text):
    assert as_path(text) == pathlib.Path(text)
    assert not paths.is_store(as_path(text))


def test_a_leading_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert as_path("~/runs") == pathlib.Path("/home/somebody/runs")
    assert as_path(pathlib.Path("~")) == pathlib.Path("/home/somebody")
    assert as_path("runs/~") == pathlib.Path("runs/~")


def test_a_path_of_a_store_is_etils():
    path = as_path("s3://bucket/run/")
    assert isinstance(path, epath.Path)
    assert paths.is_store(path)
    assert str(path) == "s3://bucket/run"
    assert str(path.parent / "a.json") == "s3://bucket/a.json"
    assert as_path(path) == paths.absolute(path) == paths.resolved(path) == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://host/x", "ftp://host/x cannot be read or written"),
        ("https://host/x", "name a local path, or one of gs:// or s3://"),
        ("S3://bucket/x", "S3://bucket/x cannot be read or written"),
        ("s3://", "s3:// does not name a bucket"),
        ("s3:///x", "s3:///x does not name a bucket"),
        ("s3:/bucket/x", "write s3://bucket/x"),
        (pathlib.Path("s3://bucket/x"), "as text and not as a pathlib.Path"),
    ],
)
def test_what_is_neither_is_refused(text, words):
    with pytest.raises(UserError, match=r"\.$") as refusal:
        as_path(text)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "package", "extra"), [("gs://b/x", "gcsfs", "gcs"), ("s3://b/x", "s3fs", "s3")]
)
def test_a_package_that_is_missing_is_named(url, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as refusal:
        as_path(url)
    assert f"{url} needs the package {package}" in str(refusal.value)
    assert f"pip install 'ranet_jax[{extra}]'" in str(refusal.value)


@pytest.mark.slow
def test_both_kinds_answer_alike(bucket, tmp_path):
    for name, contents in {"a.txt": b"abc", "d/b.bin": b"\0" * 5, "d/e/c": b""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(contents)
        bucket.put(f"top/{name}", contents)
    answers = []
    for root in (tmp_path, as_path(bucket.url("top"))):
        names = ("a.txt", "d", "d/e", "d/e/c", "d/b", "none")
        there = [
            [ask(root / n) for ask in (paths.exists, paths.is_dir, paths.is_file)] for n in names
        ]
        below = [file.relative_to(root).as_posix() for file in paths.list_files(root)]
        contents = [paths.read_bytes(root / name) for name in below]
        sizes = [paths.file_size(root / name) for name in below]
        each = [p.relative_to(root).as_posix() for p in paths.find_in_each(root, "b.bin")]
        assert paths.find_in_each(root / "none", "b.bin") == []
        listed = each, sorted(paths.list_names(root)), sorted(paths.list_names(root / "d"))
        for ask in (paths.list_names, paths.read_bytes, paths.file_size):
            with pytest.raises(FileNotFoundError) as error:
                ask(root / "none")
            assert error.value.filename == str(root / "none")
        paths.remove(root / "d/b.bin")
        there.append(paths.exists(root / "d/b.bin"))
        answers.append((there, below, contents, sizes, listed))
    assert answers[0] == answers[1]
    assert answers[0][1:4] == (["a.txt", "d/b.bin", "d/e/c"], [b"abc", b"\0" * 5, b""], [3, 5, 0])


def test_a_copy_of_a_store_is_there_meanwhile_and_errors_name_the_original(bucket):
    bucket.put("run/a/b", b"12")
    path = as_path(bucket.url("run"))
    with paths.local_copy(path) as copy:
        assert (copy / "a/b").read_bytes() == b"12"
    assert not copy.exists()
    with pytest.raises(UserError, match=f"^{path}/a is wrong"), paths.local_copy(path) as copy:
        raise UserError(f"{copy}/a is wrong.")
    other = UserError("Something else is wrong.")
    with pytest.raises(UserError) as caught, paths.local_copy(path):
        raise other
    assert caught.value is other
    with paths.local_copy(path / "a/b") as copy:
        assert (copy.name, copy.read_bytes()) == ("b", b"12")
    with paths.local_copy(path / "none") as copy:
        assert not copy.exists()


def test_a_local_path_is_its_own_copy(tmp_path):
    with paths.local_copy(tmp_path) as copy:
        assert copy is tmp_path
    assert paths.kept_copy(tmp_path) is tmp_path


def test_a_kept_copy_is_made_anew_when_the_original_changes(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bucket.put("data/toy/1.0.0/a", b"12")
    path = as_path(bucket.url("data/toy/1.0.0"))
    first = paths.kept_copy(path)
    assert first.parent == tmp_path / "ranet_jax/copies"
    assert (first / "a").read_bytes() == b"12"
    assert capsys.readouterr().err == f"ranet: Copying {path} (0.0 MB) to {first}.\n"
    (first / "mark").touch()
    assert paths.kept_copy(path) == first  # it is not copied again
    assert (first / "mark").exists()
    assert capsys.readouterr().err == ""
    bucket.put("data/toy/1.0.0/a", b"34")
    second = paths.kept_copy(path)
    assert second != first
    assert (second / "a").read_bytes() == b"34"
    assert {p.name for p in first.parent.iterdir()} == {first.name, second.name}
