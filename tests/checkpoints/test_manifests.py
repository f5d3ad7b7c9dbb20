"""Checksums of directories: every flipped bit is found."""

import json

import pytest

from helpers import damage
from ranet_jax.checkpoints.manifests import MANIFEST, add_to_manifest, find_damage, write_manifest


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "array").write_bytes(bytes(range(40)))
    (tmp_path / "digits").write_bytes(b"123456789")
    (tmp_path / "empty").touch()
    write_manifest(tmp_path)
    return tmp_path


def test_lists_every_file_but_itself(directory):
    listed = json.loads((directory / MANIFEST).read_text())["files"]
    assert sorted(listed) == ["deep/er/array", "digits", "empty"]
    assert listed["digits"] == [9, 0xCBF43926]  # the published check value of CRC-32
    assert find_damage(directory) == {}


def test_every_flipped_bit_is_found(directory):
    path = directory / "deep" / "er" / "array"
    for position in range(8 * 40):
        damage.flip(path, position)
        assert list(find_damage(directory)) == ["deep/er/array"]
        damage.flip(path, position)
    assert find_damage(directory) == {}


def test_a_flipped_bit_of_the_manifest_is_found_or_harmless(directory):
    path = directory / MANIFEST
    before = json.loads(path.read_text())
    for position in range(0, 8 * path.stat().st_size, 3):
        damage.flip(path, position)
        if not find_damage(directory):
            assert json.loads(path.read_text()) == before
        damage.flip(path, position)


@pytest.mark.parametrize("kind", damage.KINDS)
@pytest.mark.parametrize("name", ["deep/er/array", MANIFEST])
def test_other_damage_is_found(directory, name, kind):
    kind(directory / name)
    lost = kind is damage.remove and name == MANIFEST  # as in directories of earlier versions
    assert list(find_damage(directory)) == ([] if lost else [name])


def test_a_later_file_is_added(directory):
    (directory / "later").write_text("1")
    assert find_damage(directory) == {}
    add_to_manifest(directory, "later")
    assert find_damage(directory) == {}
    (directory / "later").write_text("2")
    assert find_damage(directory) == {"later": "has a different checksum than when it was written"}
    assert find_damage(directory, below="deep/") == {}
    (directory / MANIFEST).unlink()
    add_to_manifest(directory, "later")
    assert not (directory / MANIFEST).exists()
