"""Wrong arguments and damaged files, drawn at random: commands end soon and say what is wrong."""

import collections
import contextlib
import os
import random
import resource
import shutil
import signal

import jax
import pytest

from helpers import damage, mutations
from helpers.camvid_source import CONFIG, make_source
from ranet_jax.cli import main
from ranet_jax.config.declarations import FIELDS
from ranet_jax.display.progress import track

pytestmark = [pytest.mark.slow, pytest.mark.long]

TRIES = 1000
SECONDS = 30
MEMORY = 4 * 2**20  # KiB

COMMANDS = (
    "prepare camvid --source source --data-dir new",
    "pack camvid --data-dir tfds --output a.npz --splits val test --quality 90",
    "train --config config.py --workdir run",
    "train --config config.py --workdir fresh --profile 1:2",
    "evaluate run --split val --output scores.json --pictures 1 --alpha 0.5",
    "predict run image.png source/test --output pictures --alpha 0.5 --max-pixels 100000",
    "export run --format safetensors --output weights.safetensors",
    "export run --format stablehlo --size 24 32 --output run.stablehlo",
    "publish run --output published --license apache-2.0",
    "port weights.pth --model config.py --num-classes 11 --output ported",
    "port run --reverse --format pth --output back.pth",
    "inspect --config config.py --num-classes 11 --parameters",
    "reproduce table1 --data camvid --data-dir tfds --config config.py --steps 1 --seeds 1"
    " --rows none --output results",
)
OVERRIDDEN = ("train", "evaluate", "predict", "export", "inspect", "reproduce")
NUMBERS = ("-1", "0", "0.5", "1e-300", "1e30", "1e400", "nan", "-inf", "9" * 30, "-" + "9" * 400)
TEXTS = ("", " ", "a" * 300, "a\nb", "\udcff", "é: #", "%s")
TEXTS += ("null", "[]", "()", "{}", "(1,", "*", "[")
PLACES = (".", "..", "missing/file", "source", "tfds", "run", "config.py", "image.png")
PLACES += ("weights.pth", "pipe", "loop", "/dev/null", "/dev/full", "/proc/self/mem")
SPLITS = ("val[5:3]", "val[:-9]", "val+", "train+val", "test[0%:200%]")
OTHERS = ("--", "-x", "--output", "--config", "--help", "-q", "--json")
VALUES = (*NUMBERS, *TEXTS, *PLACES, *SPLITS, *OTHERS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder in which every command succeeds."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder):
        make_source(folder / "source")
        config = CONFIG.format(data_dir="tfds").replace("per_region=2", "per_region=8")
        (folder / "config.py").write_text(config)
        shutil.copy("source/test/f.png", "image.png")
        assert main(["prepare", "camvid", "--source", "source", "--data-dir", "tfds"]) == 0
        assert main(["train", "--config", "config.py", "--workdir", "run"]) == 0
        assert main(["export", "run", "--format", "pth", "--output", "weights.pth"]) == 0
    return folder


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    """Change to an empty directory, and return a function that resets it to a copy of `whole`."""
    monkeypatch.chdir(tmp_path)

    def restore():
        for entry in tmp_path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        for entry in whole.iterdir():
            if entry.is_dir():
                shutil.copytree(entry, entry.name)
            else:
                shutil.copy(entry, entry.name)
        os.mkfifo("pipe")
        os.symlink("loop", "loop")
        return tmp_path

    return restore


def too_long(*_):
    raise AssertionError(f"it took more than {SECONDS} s")


def ends(arguments, capfd):
    """Run a command and return its status; a command that fails must say what is wrong."""
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        status = main(arguments)
    except SystemExit as stop:  # from argparse
        status = stop.code
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        jax.clear_caches()  # as the end of a command's process does
    told = capfd.readouterr().err
    assert "Traceback" not in told, told
    assert status in (0, 1, 2), status
    if status:
        sentences = [line for line in told.splitlines() if line.startswith("ranet")]
        assert sentences, told
    return status


def changed(arguments, rng):
    """A command's arguments with one of them replaced or left out, or with one added."""
    arguments = list(arguments)
    place, value = rng.randrange(1, len(arguments)), rng.choice(VALUES)
    kinds = ["replace", "replace", "replace", "remove", "insert"]
    if arguments[0] in OVERRIDDEN:
        kinds.append("override")
    match rng.choice(kinds):
        case "replace":
            arguments[place] = value
        case "remove":
            del arguments[place]
        case "insert":
            arguments.insert(place, value)
        case "override":
            arguments.append(f"--config.{rng.choice(list(FIELDS))}={value}")
    return arguments


def damaged(path, rng):
    """Change a file in one of many ways."""
    if rng.randrange(3) == 0:
        rng.choice(damage.KINDS)(path)
        return
    change = mutations.change_bytes
    if path.suffix in (".json", ".jsonl") and rng.randrange(2):
        change = mutations.change_json
    path.write_bytes(change(path.read_bytes(), rng))


def assert_all_ended_well(statuses, faults):
    """Check that some commands failed, some succeeded, and none took too much memory."""
    assert not faults, "\n".join(map(str, faults))
    assert min(statuses[0], statuses[1] + statuses[2]) > TRIES / 100, statuses
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_succeeds(place, capfd, command):
    place()
    assert ends(command.split(), capfd) == 0


def test_a_command_with_wrong_arguments_ends_soon_and_changes_no_run(whole, place, capfd):
    rng, statuses, faults = random.Random(0), collections.Counter(), []
    kept = {name: path.read_bytes() for name, path in damage.files(whole / "run").items()}
    for number in track(range(TRIES), desc="arguments", unit="command"):
        folder = place()
        arguments = changed(COMMANDS[number % len(COMMANDS)].split(), rng)
        try:
            statuses[ends(arguments, capfd)] += 1
            for name, content in kept.items():
                assert (folder / "run" / name).read_bytes() == content, name
        except Exception as error:
            faults.append((arguments, error))
    assert_all_ended_well(statuses, faults)


def test_a_command_on_a_damaged_file_ends_soon_and_says_why(place, capfd):
    rng, statuses, faults = random.Random(1), collections.Counter(), []
    for number in track(range(TRIES), desc="damaged", unit="command"):
        files = damage.files(place())
        name = rng.choice(sorted(files))
        damaged(files[name], rng)
        arguments = COMMANDS[number % len(COMMANDS)].split()
        try:
            statuses[ends(arguments, capfd)] += 1
        except Exception as error:
            faults.append((name, arguments, error))
    assert_all_ended_well(statuses, faults)
