"""Files of what an evaluation counted so far."""

import dataclasses

import numpy as np
import pytest

from ranet_jax.evaluation.journal import Journal, Tally
from ranet_jax.evaluation.region_statistics import RegionCounts


def test_a_damaged_journal_is_none(tmp_path):
    tally = Tally.empty(("fine",), 3)
    tally.confusion["fine"][1, 2] = 2**40
    tally.regions = RegionCounts(images=2, squared_sizes=2**41)
    journal = Journal(tmp_path / "j.npz", "key")
    assert journal.read() is None
    journal.write(dataclasses.replace(tally, batches=3, seconds=1.5))
    found = journal.read()
    assert (found.batches, found.seconds) == (3, 1.5)
    np.testing.assert_array_equal(found.confusion["fine"], tally.confusion["fine"])
    assert found.regions == tally.regions
    assert dataclasses.replace(journal, key="other").read() is None
    (tmp_path / "j.npz").write_bytes((tmp_path / "j.npz").read_bytes()[:40])
    assert journal.read() is None


@pytest.mark.parametrize("change", ["missing", "shorter"])
def test_a_journal_of_other_fields_is_none(tmp_path, change):
    journal = Journal(tmp_path / "j.npz", "key")
    journal.write(Tally.empty(("fine",), 3))
    with np.load(journal.path) as found:
        fields = dict(found)
    regions = fields.pop("regions")
    np.savez(journal.path, **fields, **({"regions": regions[1:]} if change == "shorter" else {}))
    assert journal.read() is None
