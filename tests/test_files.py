"""Files that several processes write at once."""

import subprocess
import sys

from ranet_jax.files import read_json

PROGRAM = """
import sys
from ranet_jax.files import write_json

path, writer = sys.argv[1:]
for number in range(300):
    write_json(path, {"writer": writer, "numbers": [number] * 1000})
"""


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
