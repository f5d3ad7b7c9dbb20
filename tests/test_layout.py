"""Imports point downwards: a room of the package imports only the rooms below it."""

import ast
import pathlib
import subprocess
import sys

import pytest

import ranet_jax

PACKAGE = pathlib.Path(ranet_jax.__file__).parent
# From the top down. Rooms on one line do not import each other.
LEVELS = (
    ("cli",),
    ("reproduce",),
    ("bench", "hub"),
    ("training",),
    ("evaluation",),
    ("inference",),
    ("porting",),
    ("checkpoints", "config_files", "inspection"),
    ("models", "pipeline", "testing"),
    ("ops", "config"),
    ("files",),
    ("display", "errors"),
)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path):
    """Rooms that a file names in its imports, including those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ranet_jax":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("ranet_jax."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            yield from (parts[1] for parts in names if parts[0] == "ranet_jax" and parts[1:])


def test_every_room_has_a_level():
    assert {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"} == LEVEL.keys()


@pytest.mark.parametrize("name", LEVEL)
def test_imports_point_downwards(name):
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {other}"
        for path in PACKAGE.rglob("*.py")
        if room(path) == name
        for other in imported_rooms(path)
        if other != name and LEVEL[other] <= LEVEL[name]
    ]
    assert not upwards


@pytest.mark.slow
def test_training_needs_neither_the_data_sets_nor_pictures():
    program = (
        "import sys, ranet_jax.training.loop\n"
        "rooms = 'pipeline.examples', 'inference.pictures', 'evaluation.evaluate'\n"
        "assert not [room for room in rooms if f'ranet_jax.{room}' in sys.modules]\n"
        "assert not {'tensorflow', 'matplotlib'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
