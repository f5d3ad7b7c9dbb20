"""Files of every format, changed at random: each is read or refused in a sentence."""

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
def test_many_changed_files_are_read_or_refused(name):
    """105,000 files in all, in separate processes, where types are not checked at each call."""
    tests = pathlib.Path(__file__).parents[1]
    places = os.pathsep.join([str(tests), str(tests.parent)])
    program = [sys.executable, "-W", "error::ResourceWarning", "-m", "helpers.mutated_files"]
    run = subprocess.run(
        [*program, "15000", name],
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
