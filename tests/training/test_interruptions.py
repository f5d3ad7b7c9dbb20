"""Whatever ends a training, no saved step is lost and nothing is overwritten."""

import errno
import os
import pathlib
import shutil
import signal

import jax
import pytest

from helpers import damage, training
from helpers.training import assert_same_run
from ranet_jax import checkpoints
from ranet_jax.checkpoints import steps
from ranet_jax.errors import Interrupted, UserError
from ranet_jax.training import loop, records
from ranet_jax.training.lock import locked

pytestmark = pytest.mark.slow

STEPS = 4


def config(**changes):
    config = training.tiny_config(STEPS)
    config.train.update({"log_every": 4, "checkpoint_every": 2, "eval_every": 4} | changes)
    return config


def run(workdir, on_batch=lambda number: None, eval_batches=training.eval_batches, given=None):
    return loop.train(
        given or config(),
        workdir,
        training.DATASET,
        lambda first: training.train_batches(first, on_batch=on_batch),
        eval_batches,
    )


def contents(directory):
    return {name: path.read_bytes() for name, path in damage.files(directory).items()}


def saved(workdir):
    return steps.finished_steps(pathlib.Path(workdir) / "checkpoints")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir)
    return workdir


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the disk of the images is gone"),
        pytest.param(MemoryError(), marks=pytest.mark.long),
    ],
)
def test_an_evaluation_that_fails_loses_no_step_and_is_made_up_for(whole, tmp_path, error):
    def broken():
        yield from training.eval_batches()[:1]
        raise error

    with pytest.raises(type(error)):
        run(tmp_path, eval_batches=broken)
    assert saved(tmp_path) == [2, STEPS]
    assert all("loss" in record for record in training.records(tmp_path))
    run(tmp_path)
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_a_signal_ends_an_evaluation(whole, tmp_path, number):
    seen = []

    def watched():
        for batch in training.eval_batches():
            seen.append(batch)
            os.kill(os.getpid(), number)
            yield batch

    with pytest.raises(Interrupted, match=f"by {number.name} after step {STEPS}, which is saved"):
        run(tmp_path, eval_batches=watched)
    assert len(seen) == 1
    run(tmp_path)
    assert_same_run(tmp_path, whole)


@pytest.mark.long
def test_a_middle_evaluation_is_made_up_for_before_the_next_step(tmp_path):
    given = config(eval_every=2)
    run(tmp_path / "whole", given=given)

    def broken():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(tmp_path / "run", eval_batches=broken, given=given)
    run(tmp_path / "run", given=given)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    scores = [r["fine_miou"] for r in training.records(tmp_path / "run") if "fine_miou" in r]
    for step, score in zip((2, 4), scores, strict=True):
        assert steps.read_score(tmp_path / "run" / "checkpoints" / str(step)) == score


def test_two_steps_are_under_way_at_most(tmp_path, monkeypatch):
    """Before a step is given to the devices, all but the one before it have ended."""
    ended, begun = [], []
    map_step, wait = loop.parallel.map_step, jax.block_until_ready

    def counting_map(*arguments):
        step = map_step(*arguments)

        def call(*given):
            begun.append(len(ended))
            return step(*given)

        return call

    def counting_wait(metrics):
        ended.extend(metrics if isinstance(metrics, list) else ())
        return wait(metrics)

    monkeypatch.setattr(loop.parallel, "map_step", counting_map)
    monkeypatch.setattr(loop.jax, "block_until_ready", counting_wait)
    run(tmp_path, given=config(checkpoint_every=100))
    assert begun == [0, 0, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_set_up_ends_it(tmp_path, number):
    def interrupted(*arguments):
        os.kill(os.getpid(), number)
        pytest.fail("went on")

    with pytest.raises(Interrupted, match=f"by {number.name}; run the same command"):
        loop.train(
            config(),
            tmp_path / "run",
            training.DATASET,
            training.train_batches,
            training.eval_batches,
            interrupted,
        )
    assert not (tmp_path / "run").exists()


LINES = (b"\xff\xfe\n", b"null\n", b"[1]\n", b'{"step": "1"}\n', b'{"step": 1.5}\n', b"{}\n")
LINES += (b"[" * 100_000 + b"\n", b'{"step": 1' + b"0" * 400 + b"}\n", b'{"step": 1, "loss": []}\n')
LINES += (b'{"step": 1, "loss": null}\n', b'{"step": true}\n', b"{\n")


@pytest.mark.parametrize("line", LINES)
def test_records_that_cannot_be_read_are_named_before_anything_is_written(whole, tmp_path, line):
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_bytes(line + path.read_bytes())
    before = contents(tmp_path / "run")
    with pytest.raises(UserError, match=f"{path} holds a line that .*; fix it") as refused:
        run(tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    assert contents(tmp_path / "run") == before


def test_a_directory_of_something_else_is_refused(whole, tmp_path):
    stored = checkpoints.load_variables(whole)
    checkpoints.export(tmp_path / "made", config(), training.DATASET, stored.variables)
    before = contents(tmp_path / "made")
    with pytest.raises(UserError, match="made holds an exported or ported network"):
        run(tmp_path / "made")
    assert contents(tmp_path / "made") == before


def test_a_second_training_is_refused(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    with locked(tmp_path / "run"):
        before = contents(tmp_path / "run")
        with pytest.raises(UserError, match="run is in use by another training"):
            run(tmp_path / "run")
        assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    "place",
    ["board", *(pytest.param(each, marks=pytest.mark.long) for each in ("line", "flush", "begin"))],
)
@pytest.mark.parametrize("error", [errno.ENOSPC])
def test_records_that_cannot_be_written(whole, tmp_path, monkeypatch, place, error):
    """A full disk ends training in a sentence; once there is room again, it goes on."""
    calls, given = [], config(log_every=1)
    where = {
        "line": (records.MetricsLog, "_write"),
        "flush": (records.MetricsLog, "_flush"),
        "board": (records.EventsWriter, "write_event"),
        "begin": (records, "write_text"),
    }
    write = getattr(*where[place])

    def fail(*arguments, **options):
        calls.append(arguments)
        if place == "begin" or len(calls) > 3:
            raise OSError(error, os.strerror(error))
        return write(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(*where[place], fail)
        said = (
            rf"records of {tmp_path} cannot be written \({os.strerror(error)}\);"
            rf" (no step is saved|the last saved step is \d); make room"
        )
        with pytest.raises(UserError, match=said):
            run(tmp_path, given=given)
    run(tmp_path, given=given)
    assert [r["step"] for r in training.records(tmp_path)] == [1, 2, 3, 4, 4]


def test_a_directory_that_is_removed_is_not_said_to_be_saved(tmp_path):
    def remove(number):
        if number == 3:
            shutil.rmtree(tmp_path / "run")
            os.kill(os.getpid(), signal.SIGTERM)

    said = r"Step 3 cannot be saved to .*\(No such file or directory\); no step is saved"
    with pytest.raises(UserError, match=said):
        run(tmp_path / "run", on_batch=remove, given=config(checkpoint_every=100))
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_removed_during_the_last_evaluation_is_told(tmp_path):
    def removing():
        shutil.rmtree(tmp_path / "run")
        return training.eval_batches()

    said = rf"score of step {STEPS} cannot be written to .*; no step is saved"
    with pytest.raises(UserError, match=said):
        run(tmp_path / "run", eval_batches=removing)
    assert not (tmp_path / "run").exists()
