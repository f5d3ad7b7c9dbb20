"""The training loop: interruption and exact resumption, records, and what stops it."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers import training, xla
from helpers.tensorboard import pictures_of_events
from helpers.training import assert_same_run, records
from ranet_jax.checkpoints import load_variables
from ranet_jax.errors import Interrupted, UserError
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.training.loop import train
from ranet_jax.training.records import NonFiniteLossError

pytestmark = pytest.mark.slow

STEPS = 6


def run(workdir, config=None, dataset=training.DATASET, on_batch=lambda number: None):
    return train(
        config or training.tiny_config(STEPS),
        workdir,
        dataset,
        lambda first: training.train_batches(first, on_batch=on_batch),
        training.eval_batches,
    )


def steps_saved(workdir):
    names = (path.name for path in (pathlib.Path(workdir) / "checkpoints").iterdir())
    return sorted(int(name) for name in names if name.isdigit())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run on eight devices."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(workdir)


def test_records_every_step_and_learns(whole):
    workdir, result = whole
    steps = [r for r in records(workdir) if "loss" in r]
    assert [r["step"] for r in steps] == list(range(1, STEPS + 1))
    assert set(steps[0]) == {"step", "loss", "fine", "gradient_norm", "learning_rate"}
    np.testing.assert_allclose(
        [r["learning_rate"] for r in steps], [0.02 * (1 - i / STEPS) for i in range(STEPS)], 1e-6
    )
    assert steps[-1]["loss"] < steps[0]["loss"]
    evaluation = records(workdir)[-1]
    assert evaluation["fine_miou"] == result.fine.miou
    assert set(evaluation) == {"step", "fine_miou", "fine_accuracy"}
    assert list((workdir / "tensorboard").iterdir())


def test_training_shows_photographs_in_their_colours(whole):
    """Each pixel of the first image that is evaluated is enlarged, with its colour kept."""
    workdir, _ = whole
    pictures = pictures_of_events(workdir / "tensorboard")
    assert ("eval/samples", STEPS) in pictures
    normalization = Normalization.from_config(training.tiny_config(STEPS).data)
    photograph = normalization.undo(training.eval_batches()[0]["image"][0])
    column = pictures["eval/samples", STEPS][:, 8 : 8 + 240]
    shown = set(map(tuple, column.reshape(-1, 3).tolist()))
    assert set(map(tuple, photograph.reshape(-1, 3).tolist())) <= shown


def test_keeps_the_latest_and_the_best(tmp_path):
    config = training.tiny_config(8)
    config.train.eval_every = 2
    run(tmp_path, config)
    evaluations = {r["step"]: r["fine_miou"] for r in records(tmp_path) if "fine_miou" in r}
    best = max(evaluations, key=lambda step: (evaluations[step], step))
    assert set(steps_saved(tmp_path)) == {6, 8, best}
    assert load_variables(tmp_path).step == best
    assert load_variables(tmp_path / "checkpoints" / "6").step == 6


@pytest.mark.parametrize(
    "sent, stop, status",
    [
        (signal.SIGTERM, 1, 143),
        pytest.param(signal.SIGTERM, 5, 143, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, 3, 130, marks=pytest.mark.long),
    ],
)
def test_a_signal_saves_and_the_rest_is_identical(whole, tmp_path, sent, stop, status):
    def interrupt(number):
        if number == stop:
            os.kill(os.getpid(), sent)

    with pytest.raises(Interrupted, match=f"by {sent.name} after step {stop}") as stopped:
        run(tmp_path, on_batch=interrupt)
    assert stopped.value.status == status
    assert steps_saved(tmp_path)[-1] == stop
    run(tmp_path)
    assert_same_run(tmp_path, whole[0])


def test_a_second_ctrl_c_stops_at_once(tmp_path, capsys):
    def interrupt(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_batch=interrupt)
    assert "press Ctrl-C again to stop at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.long
def test_sigterm_at_an_evaluation_loses_no_score(tmp_path):
    def terminate(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    config = training.tiny_config(STEPS)
    config.train.eval_every = 3
    run(tmp_path / "whole", config)
    with pytest.raises(Interrupted, match="after step 3"):
        run(tmp_path / "stopped", config, on_batch=terminate)
    run(tmp_path / "stopped", config)
    assert [r["step"] for r in records(tmp_path / "stopped") if "fine_miou" in r] == [3, 6]
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_sigkill_resumes_identically(whole, tmp_path):
    """Killed while it runs, with more steps recorded than saved; resumed by another process."""
    program = [sys.executable, training.__file__, str(tmp_path), str(STEPS), "0.4"]
    process = subprocess.Popen(program, stderr=subprocess.PIPE)
    metrics = tmp_path / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(records(tmp_path)) < STEPS
    run(tmp_path)
    assert_same_run(tmp_path, whole[0])


@pytest.mark.long
def test_resumes_on_another_number_of_devices(whole, tmp_path):
    """Stopped on one device in a separate program, resumed here on eight."""
    environment = os.environ | {"XLA_FLAGS": xla.flags(1)}
    program = [sys.executable, training.__file__, str(tmp_path), str(STEPS), "0.4"]
    process = subprocess.Popen(program, env=environment, stderr=subprocess.PIPE)
    metrics = tmp_path / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert b"Stopped by SIGTERM" in errors
    assert 0 < steps_saved(tmp_path)[-1] < STEPS
    config = training.tiny_config(STEPS)
    config.train.parallel = "shard_map"
    run(tmp_path, config)
    assert_same_run(tmp_path, whole[0], rtol=1e-4)


def start_two_processes(workdir, mode, pause="0"):
    """Two hosts of four devices each."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": xla.flags(4)}
    program = [sys.executable, training.__file__, str(workdir), str(STEPS), pause, mode]
    return [
        subprocess.Popen(
            [*program, coordinator, str(index)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for index in range(2)
    ]


@pytest.mark.long
@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_two_hosts_train_as_one(whole, tmp_path, mode):
    processes = start_two_processes(tmp_path, mode)
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert_same_run(tmp_path, whole[0], rtol=1e-4)


@pytest.mark.long
def test_two_hosts_stop_together_and_resume(whole, tmp_path):
    processes = start_two_processes(tmp_path, "pmap", pause="0.4")
    metrics = tmp_path / "metrics.jsonl"
    while processes[0].poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    processes[0].send_signal(signal.SIGTERM)
    errors = [process.communicate()[1].decode() for process in processes]
    assert all("Stopped by SIGTERM" in text for text in errors), errors
    assert 0 < steps_saved(tmp_path)[-1] < STEPS
    processes = start_two_processes(tmp_path, "pmap")
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert_same_run(tmp_path, whole[0], rtol=1e-4)


def test_a_finished_run_is_not_repeated(whole):
    def refuse(number):
        raise AssertionError("a batch was drawn")

    before = records(whole[0])
    result = run(whole[0], on_batch=refuse)
    assert records(whole[0]) == before
    assert result.fine.miou == whole[1].fine.miou


def test_a_half_written_checkpoint_is_not_picked_up(whole, tmp_path):
    run(tmp_path, on_batch=lambda number: None)
    leftover = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp"
    leftover.mkdir()
    (leftover / "state").mkdir()
    assert load_variables(tmp_path).step == STEPS
    run(tmp_path)
    assert not leftover.exists()


def test_training_goes_on_from_the_newest_whole_checkpoint(whole, tmp_path, capsys):
    shutil.copytree(whole[0], tmp_path / "run")
    directory = tmp_path / "run" / "checkpoints" / str(STEPS)
    (directory / "state" / "_METADATA").write_bytes(b"")
    run(tmp_path / "run")
    told = [line for line in capsys.readouterr().err.splitlines() if "ranet: " in line]
    assert len(told) == 1
    assert re.search(rf"{directory} is damaged \(state/_METADATA .*\); the one of step 4", told[0])
    assert (directory.parent / f"{STEPS}.damaged" / "state" / "_METADATA").exists()
    assert_same_run(tmp_path / "run", whole[0])


def test_non_finite_loss_stops_with_the_steps(tmp_path):
    def poisoned(first):
        for number, batch in enumerate(training.train_batches(first), first + 1):
            if number == 5:
                batch["image"][0, 0, 0, 0] = np.nan
            yield batch

    config = training.tiny_config(STEPS)
    config.train.checkpoint_every = 4
    with pytest.raises(NonFiniteLossError, match=r"step 5 \(of steps 5 to 6\): .*loss"):
        train(config, tmp_path, training.DATASET, poisoned, training.eval_batches)
    assert steps_saved(tmp_path) == [4]


def test_a_directory_without_a_checkpoint_takes_the_mended_config(tmp_path):
    def poisoned(first):
        batch = training.batch(1)
        batch["image"][0, 0, 0, 0] = np.nan
        yield batch

    config = training.tiny_config(STEPS)
    config.train.log_every = 1
    with pytest.raises(NonFiniteLossError, match="step 1 "):
        train(config, tmp_path, training.DATASET, poisoned, training.eval_batches)
    mended = training.tiny_config(STEPS)
    mended.optimizer.learning_rate = 0.01
    run(tmp_path, mended)
    assert load_variables(tmp_path).config.optimizer.learning_rate == 0.01


@pytest.mark.long
def test_a_run_whose_evaluation_failed_goes_on_with_smaller_batches(whole, tmp_path):
    """The step is saved already: only the evaluation is made again."""

    def too_large():
        raise MemoryError

    config, numbers = training.tiny_config(STEPS), []
    with pytest.raises(MemoryError):
        train(config, tmp_path, training.DATASET, training.train_batches, too_large)
    config.eval.update(batch_size=1, regions=False)
    config.train.update(eval_every=3, log_every=1)
    run(tmp_path, config, on_batch=numbers.append)
    assert numbers == []
    assert_same_run(tmp_path, whole[0])


def test_what_changes_no_step_may_change(whole):
    config = training.tiny_config(STEPS)
    config.train.log_every = 1
    config.data.data_dir = "elsewhere"
    run(whole[0], config)


def test_bad_input(whole, tmp_path):
    config = training.tiny_config(STEPS)
    config.train.batch_size = 12
    with pytest.raises(UserError, match="batch_size 12 is not divisible by 8 devices"):
        run(tmp_path / "a", config)
    config = training.tiny_config(STEPS)
    config.loss.class_weights = (1.0,) * 5
    with pytest.raises(UserError, match=r"class_weights has 5 entries, but data set .* classes"):
        run(tmp_path / "a", config)
    config.loss.class_weights = (0.0,) * training.DATASET.num_classes
    with pytest.raises(UserError, match="class_weights are all 0, so that nothing is learned"):
        run(tmp_path / "a", config)
    config = training.tiny_config(STEPS)
    config.optimizer.learning_rate = 0.5
    before = (whole[0] / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"another config \(optimizer.learning_rate differ\)"):
        run(whole[0], config)
    assert (whole[0] / "config.json").read_bytes() == before
    with pytest.raises(UserError, match="another version of data set"):
        run(whole[0], dataset=DatasetMetadata("toy", ("a", "b", "c"), ((0, 0, 0),) * 3))
    one_class = DatasetMetadata("toy", ("left",), ((0, 0, 0),))
    with pytest.raises(UserError, match="holds the value 1"):
        run(tmp_path / "b", dataset=one_class)
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_variables(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_variables(whole[0] / "checkpoints" / "999")
