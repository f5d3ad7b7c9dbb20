"""Files of every format changed at random: each is read or refused in a sentence, and no more."""

import os
import pathlib
import subprocess
import sys

import pytest

from helpers.mutated_files import KINDS, check

pytestmark = pytest.mark.slow

every_kind = pytest.mark.parametrize("name", KINDS)


@every_kind
def test_changed_files_are_read_or_refused(tmp_path, name):
    check(name, tmp_path, 20)


@pytest.mark.long
@every_kind
def test_many_changed_files_are_read_or_refused(tmp_path, name):
    """105,000 in all, in processes of their own, where types are not checked at each call."""
    command = (
        "import pathlib, sys; from helpers.mutated_files import check;"
        " check(sys.argv[1], pathlib.Path(sys.argv[2]), 15_000)"
    )
    tests = pathlib.Path(__file__).parents[1]
    places = os.pathsep.join([str(tests), str(tests.parent)])
    run = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", command, name, tmp_path],
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
