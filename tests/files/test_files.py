"""Files are whole or absent, even when several processes write them at once."""

import pathlib
import subprocess
import sys

import pytest

from ranet_jax.files import read_json, replacing, write_json

PROGRAM = """
import sys
from ranet_jax.files import write_json

path, writer = sys.argv[1:]
for number in range(300):
    write_json(path, {"writer": writer, "numbers": [number] * 1000})
"""


@pytest.mark.slow
def test_two_processes_may_write_one_file(tmp_path):
    path = tmp_path / "table.json"
    writers = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), name], stderr=subprocess.PIPE)
        for name in ("a", "b")
    ]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors
    assert read_json(path)["numbers"] == [299] * 1000
    assert [file.name for file in tmp_path.iterdir()] == ["table.json"]


@pytest.mark.parametrize("make", [pathlib.Path.touch, pathlib.Path.mkdir])
def test_what_is_not_finished_leaves_nothing(tmp_path, make):
    (tmp_path / "kept").write_text("before")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "kept") as partial:
        make(partial)
        raise KeyboardInterrupt
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept", "before")]


def test_json_has_lists_of_numbers_on_one_line_and_texts_as_they_are(tmp_path):
    value = {"rows": [[1, 2.5], [3, None]], "texts": ["[ a, 1 ]", "[\n1,\n2]"], "none": []}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert "    [1, 2.5],\n" in (tmp_path / "value.json").read_text()
