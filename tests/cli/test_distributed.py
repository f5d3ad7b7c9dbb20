"""`ranet train --distributed`: how processes meet, and what the others report when one is lost."""

import json
import socket

import pytest

from helpers.processes import ends, free_port, start, wait_for_step
from ranet_jax.checkpoints.steps import finished_steps
from ranet_jax.cli.supervise import what_was_lost
from ranet_jax.files.paths import as_path

pytestmark = pytest.mark.slow

GO_ON = "run the same command again in every process to continue."


def test_the_other_process_says_which_is_gone_and_what_is_saved(tmp_path):
    port = free_port()
    processes = [start(tmp_path, port, index, "--lost-after", "8") for index in range(2)]
    wait_for_step(tmp_path, processes)
    processes[1].kill()
    status, sentence = ends(processes[0])
    saved = finished_steps(tmp_path / "checkpoints")[-1]
    assert status == 75
    assert (
        sentence
        == f"Process 1 is gone, or stopped for 8 s; the last saved step is {saved}; {GO_ON}"
    )
    processes[1].communicate()


@pytest.mark.long
def test_processes_that_share_no_file_system_train_on_a_store(tmp_path, bucket):
    """Each has its own directory for temporary files; one gets a signal, and both end cleanly."""
    port, processes = free_port(), []
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        temporary = str(tmp_path / str(index))
        processes.append(start(bucket.url("run"), port, index, TMPDIR=temporary))
    wait_for_step(as_path(bucket.url("run")), processes)
    processes[1].terminate()
    assert [ends(process)[0] for process in processes] == [143, 143]
    saved = finished_steps(as_path(bucket.url("run/checkpoints")))[-1]
    assert saved >= 2
    assert f"run/checkpoints/{saved}/manifest.json" in bucket.files()
    lines = bucket.files("run/")["metrics.jsonl"].splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, saved + 1))
    assert [list((tmp_path / str(index)).glob("ranet_jax_*")) for index in range(2)] == [[], []]


@pytest.mark.long
def test_an_error_of_one_process_ends_the_other(tmp_path):
    port = free_port()
    processes = [start(tmp_path, port, index, FAULT="1:3") for index in range(2)]
    (first, told), (second, error) = [ends(process) for process in processes]
    assert (first, second) == (1, 1)
    assert "holds the value 77" in error
    assert told == f"Process 1 has ended, and so does this one: {error}"


@pytest.mark.long
def test_a_process_that_never_comes(tmp_path):
    status, sentence = ends(start(tmp_path / "run", free_port(), 0, "--join-timeout", "1"))
    assert status == 75
    assert sentence.startswith("Not all processes joined within 1 s; start all of them")
    assert sentence.endswith(f"no step is saved; {GO_ON}")


COORDINATORS = ("localhost", "localhost:abc", "localhost:0", "localhost:65536", "::1:80", ":80", "")


@pytest.mark.parametrize("coordinator", COORDINATORS)
def test_a_coordinator_that_is_no_address(tmp_path, refusal, coordinator):
    train = ("train", "--config", "x.py", "--workdir", tmp_path / "run", "--distributed")
    message = refusal(*train, "--coordinator", coordinator)
    assert message.startswith(f"The coordinator {coordinator!r} is not HOST:PORT; give the host")


@pytest.mark.parametrize(
    "options, said",
    [
        (("--num-processes", "0"), "number of processes is 0; choose 1 or more"),
        (("--num-processes", "9" * 30), "number of processes is 9+; choose 32768 or less"),
        (("--num-processes", "2", "--process-id", "2"), "no process 2; .* from 0 to 1"),
        (("--process-id", "-1"), "no process -1"),
        (("--process-id", "9" * 30), "no process 9+; processes are numbered from 0 to 32767"),
        (("--join-timeout", "0"), "is 0 s; give 1 to 100000"),
        (("--lost-after", "0"), "is 0 s; give 1 to 100000"),
        (("--profile", "5"), "'5' does not name steps; give START:STOP"),
        (("--profile", "5:5"), "'5:5' does not name steps"),
    ],
)
def test_options_that_cannot_be(tmp_path, refusal, options, said):
    train = ("train", "--config", "x.py", "--workdir", tmp_path / "run", "--distributed")
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(refusal(*train, "--coordinator", "[::1]:80", *options))


def test_a_port_that_another_program_has(tmp_path, refusal):
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        train = ("train", "--config", "x.py", "--workdir", tmp_path / "run", "--distributed")
        processes = ("--num-processes", "2", "--process-id", "0")
        message = refusal(*train, "--coordinator", f"localhost:{port}", *processes)
    assert f"Process 0 cannot use port {port} (Address already in use); give all" in message


@pytest.mark.parametrize(
    "status, said",
    [
        (
            "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n3\n11\n"
            "The tasks have crashed.\nRPC: /xla.coordination.CoordinationService/PollForError\n",
            "Processes 3, 11 are gone, or stopped for 30 s",
        ),
        (
            "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n"
            "/job:jax_worker/replica:0/task:2\nThe tasks have crashed.\n",
            "Process 2 is gone, or stopped for 30 s",
        ),
        (
            "DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla.CoordinationService/Heartbeat\n",
            "Process 0 is gone, or cannot be reached",
        ),
        ("ABORTED: The task was started anew.\n", "The other processes were lost (ABORTED: The"),
    ],
)
def test_what_jax_says_of_a_loss(status, said):
    assert what_was_lost(f"F1129 absl::Status: {status}*** Check\n", 300, 30).startswith(said)
