"""Progress in terminals and in log files."""

import io
import sys

import pytest

from ranet_jax.display import progress
from ranet_jax.display.progress import track


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when a test says so."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_a_log_file_gets_a_line_now_and_then_and_one_at_the_end(clock, capsys):
    for _ in track(range(100), desc="predict", unit="image"):
        clock(1)
    assert capsys.readouterr().err.splitlines() == [
        "predict: 30/100 images, 00:30 elapsed, 01:10 left",
        "predict: 60/100 images, 01:00 elapsed, 00:40 left",
        "predict: 90/100 images, 01:30 elapsed, 00:10 left",
        "predict: 100/100 images, 01:40 elapsed",
    ]


def test_a_log_file_has_no_second_last_line_and_none_of_nothing(clock, capsys):
    for _ in track(range(2), desc="predict", unit="image"):
        clock(20)
    list(track([], desc="predict", unit="image"))
    assert capsys.readouterr().err == "predict: 2/2 images, 00:40 elapsed\n"


def test_what_was_done_before_is_not_in_the_estimate(clock, capsys):
    with track(desc="train", unit="step", total=1000, initial=900) as bar:
        clock(50)
        bar.set_postfix_str("loss 0.5")
        bar.update(10)
    shown = capsys.readouterr().err
    assert shown == "train: 910/1000 steps, 00:50 elapsed, 07:30 left, loss 0.5\n"


def test_time_left_out_is_not_in_the_estimate_of_a_log_file(clock, capsys):
    with track(desc="train", unit="step", total=100) as bar:
        clock(5)
        bar.update(5)
        clock(500)
        bar.leave_out(500.0)
        clock(35)
        bar.update(35)
    assert capsys.readouterr().err == "train: 40/100 steps, 00:40 elapsed, 01:00 left\n"


def test_what_goes_on_within_another_has_no_line_at_its_end(clock, capsys):
    def evaluate():
        for _ in track([1, 2], desc="evaluate", unit="image", leave=None):
            clock(40)

    with track(desc="train", unit="step", total=2) as bar:
        evaluate()
        bar.update(2)
    within = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in within] == [
        "evaluate: 1/2 images",
        "evaluate: 2/2 images",
        "train: 2/2 steps",
    ]
    list(track([1], desc="evaluate", unit="image", leave=None))
    assert capsys.readouterr().err == "evaluate: 1/1 images, 00:00 elapsed\n"
    with track(desc="train", unit="step", total=2) as bar:
        list(track([1], desc="evaluate", unit="image", leave=None))
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_a_bar_whose_estimate_leaves_the_same_out(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    now = [1000.0]
    with track(desc="train", unit="step", total=100) as bar:
        bar._time = lambda: now[0]
        bar.start_t = bar.last_print_t = now[0]
        now[0] += 10
        bar.update(10)
        now[0] += 500
        bar.leave_out(500.0)
        now[0] += 10
        bar.update(10)
        assert bar.format_dict["rate"] == pytest.approx(1.0)
        assert bar.format_dict["elapsed"] == pytest.approx(20)
    assert "\r" in sys.stderr.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_hidden_progress_shows_nothing(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    with track([1, 2], desc="predict", unit="image", hidden=True) as bar:
        assert list(bar) == [1, 2]
        bar.leave_out(3.0)
    assert sys.stderr.getvalue() == ""
