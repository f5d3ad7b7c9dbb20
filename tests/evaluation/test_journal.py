"""Files with the counts of an evaluation so far."""

import dataclasses

import numpy as np
import pytest

from ranet_jax.evaluation.journal import Journal, Tally
from ranet_jax.evaluation.region_statistics import RegionCounts

EMPTY = Tally.empty(("fine",), 3)


def test_a_damaged_journal_is_none(tmp_path, capsys):
    tally = Tally.empty(("fine",), 3)
    tally.confusion["fine"][1, 2] = 2**40
    tally.regions = RegionCounts(images=2, squared_sizes=2**41)
    journal = Journal(tmp_path / "j.npz", "key")
    assert journal.read(EMPTY) is None
    journal.write(dataclasses.replace(tally, batches=3, seconds=1.5))
    found = journal.read(EMPTY)
    assert (found.batches, found.seconds) == (3, 1.5)
    np.testing.assert_array_equal(found.confusion["fine"], tally.confusion["fine"])
    assert found.regions == tally.regions
    assert dataclasses.replace(journal, key="other").read(EMPTY) is None
    assert capsys.readouterr().err == ""
    (tmp_path / "j.npz").write_bytes((tmp_path / "j.npz").read_bytes()[:40])
    assert journal.read(EMPTY) is None
    assert f"{journal.path} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["missing", "shorter"])
def test_a_journal_of_other_fields_is_none(tmp_path, change):
    journal = Journal(tmp_path / "j.npz", "key")
    journal.write(Tally.empty(("fine",), 3))
    with np.load(journal.path) as found:
        fields = dict(found)
    regions = fields.pop("regions")
    np.savez(journal.path, **fields, **({"regions": regions[1:]} if change == "shorter" else {}))
    assert journal.read(EMPTY) is None


def truncations(data):
    for length in range(0, len(data), 97):
        yield data[:length]


def flips(data):
    for position in range(0, 8 * len(data), 331):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        yield bytes(flipped)


@pytest.mark.parametrize("damaged", [truncations, flips])
def test_whatever_became_of_a_journal_it_is_right_or_none(tmp_path, damaged):
    journal = Journal(tmp_path / "j.npz", "key")
    journal.write(dataclasses.replace(EMPTY, batches=2, images={"fine": 7}))
    expected = journal.read(EMPTY)
    for data in damaged(journal.path.read_bytes()):
        journal.path.write_bytes(data)
        found = journal.read(EMPTY)
        if found is not None:
            np.testing.assert_equal(dataclasses.asdict(found), dataclasses.asdict(expected))


WRONG = {
    "outputs": [["coarse"], [], [[1]], 3],
    "confusion_fine": [np.zeros((2, 2), np.int64), np.zeros(9, np.int64), np.zeros((3, 3)), "x"],
    "images_fine": [-1, "many", [1, 2], np.nan],
    "regions": [-np.ones(20, np.int64), [], "x"],
    "batches": [-1, np.nan, "x", [1, 2]],
    "seconds": [np.nan, np.inf, -1.0, "x"],
}


@pytest.mark.parametrize("field", WRONG)
def test_a_journal_of_bad_content_is_none(tmp_path, field):
    journal = Journal(tmp_path / "j.npz", "key")
    journal.write(EMPTY)
    with np.load(journal.path) as found:
        fields = dict(found)
    negative = -np.ones_like(fields[field]) if fields[field].dtype.kind in "if" else "other"
    for value in (*WRONG[field], negative):
        np.savez(journal.path, **fields | {field: value})
        assert journal.read(EMPTY) is None, value
    with journal.path.open("wb") as file:
        np.savez(file, **fields | {field: np.array([{}], object)})
    assert journal.read(EMPTY) is None


def test_a_journal_that_cannot_be_written_or_removed_is_none(tmp_path):
    journal = Journal(tmp_path / "gone" / "j.npz", "key")
    journal.write(EMPTY)
    assert journal.read(EMPTY) is None
    journal.remove()
    (tmp_path / "directory").mkdir()
    dataclasses.replace(journal, path=tmp_path / "directory").remove()
