"""Files on an object store: they are whole or absent, and a failure ends in one sentence."""

import json

import pytest

from ranet_jax.errors import UserError
from ranet_jax.files import (
    check_json_output,
    make_directory,
    new_directory,
    read_json,
    replacing,
    stores,
    write_json,
)
from ranet_jax.files.paths import as_path


def test_json_is_written_and_read(bucket):
    check_json_output(bucket.url("a/b.json"), "scores")
    write_json(bucket.url("a/b.json"), {"x": [1, 2]})
    assert json.loads(bucket.files()["a/b.json"]) == {"x": [1, 2]}
    assert read_json(bucket.url("a/b.json")) == {"x": [1, 2]}
    with pytest.raises(UserError, match="is missing; name a directory that training wrote"):
        read_json(bucket.url("a/c.json"))


def test_a_write_that_is_cut_off_leaves_what_was_there(bucket):
    bucket.put("a", b"old")
    with pytest.raises(ZeroDivisionError), replacing(bucket.url("a")) as partial:
        partial.write_bytes(b"ne")
        raise ZeroDivisionError
    assert bucket.files() == {"a": b"old"}
    with replacing(bucket.url("a")) as partial:
        partial.write_bytes(b"new")
    assert bucket.files() == {"a": b"new"}


def test_a_new_directory_overwrites_nothing(bucket):
    with new_directory(bucket.url("model")) as partial:
        (partial / "variables").mkdir()
        (partial / "variables/x").write_bytes(b"1")
        (partial / "y").write_bytes(b"2")
        assert bucket.files() == {}
    assert bucket.files() == {"model/variables/x": b"1", "model/y": b"2"}
    with pytest.raises(UserError, match="exists already"), new_directory(bucket.url("model")):
        pass


def test_a_directory_that_cannot_be_sent_whole_is_taken_back(bucket, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b\udcff").write_bytes(b"2")  # stores require UTF-8 names, unlike this one
    with pytest.raises(OSError, match="surrogates not allowed"):
        stores.upload(tmp_path, as_path(bucket.url("up")))
    assert bucket.files() == {}


def test_the_last_file_is_sent_last(bucket, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    stores.upload(tmp_path, as_path(bucket.url("up")), last="a")
    entries = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    times = {entry["Key"]: entry["LastModified"] for entry in entries}
    assert times.keys() == {"up/a", "up/b", "up/c"}
    assert times["up/a"] == max(times.values())


@pytest.mark.parametrize(
    "check", [lambda path: check_json_output(path, "scores"), lambda p: make_directory(p, "place")]
)
def test_a_bucket_that_is_missing_is_told_before_work_is_done(object_store, check):
    with pytest.raises(UserError, match="Bucket s3://no-such-bucket does not exist"):
        check(as_path("s3://no-such-bucket/a/b.json"))


def test_other_errors_name_the_file(bucket, monkeypatch):
    with pytest.raises(FileNotFoundError) as error, replacing("s3://no-such-bucket/x") as partial:
        partial.touch()
    assert error.value.filename == "s3://no-such-bucket/x"


def test_a_server_that_does_not_answer_is_named(monkeypatch, object_store):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(OSError, match="Could not connect to the endpoint URL") as error:
            stores.read_bytes(as_path("s3://bucket/x"))
        assert error.value.filename == "s3://bucket/x"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
