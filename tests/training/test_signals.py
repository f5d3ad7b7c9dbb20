"""Signals act at once while there is nothing to save, else when training looks for them."""

import contextlib
import os
import signal
import threading

import pytest

from ranet_jax.errors import Interrupted
from ranet_jax.training.signals import CAUGHT, catch_signals


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", CAUGHT)
def test_set_up_ends_at_once_whatever_catches_errors(number):
    before = [signal.getsignal(n) for n in CAUGHT]
    said = f"by {number.name}; run the same command"
    with pytest.raises(Interrupted, match=said) as stopped, catch_signals():
        try:
            send(number)
        except Exception:
            pytest.fail("caught as an error")
    assert stopped.value.status == 128 + number
    assert [signal.getsignal(n) for n in CAUGHT] == before


@pytest.mark.parametrize("number", CAUGHT)
def test_a_signal_that_set_up_swallows_counts_before_the_first_step(number):
    with pytest.raises(Interrupted, match=number.name), catch_signals() as stop:
        with contextlib.suppress(Interrupted):
            send(number)
        with stop.defer():
            pytest.fail("went on")


@pytest.mark.parametrize("number", CAUGHT)
def test_training_looks_for_the_signal(number):
    with catch_signals() as stop, stop.defer():
        assert stop.after(1) is None
        stop.check()
        send(number)
        assert stop.after(2) == number
        with pytest.raises(Interrupted, match=f"by {number.name} after step 2, which is saved;"):
            stop.check(" after step 2, which is saved")


@pytest.mark.parametrize("first", CAUGHT)
def test_ctrl_c_after_a_signal_interrupts_at_once(first):
    with catch_signals() as stop, stop.defer():
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_one_inside_another_shares_its_signals():
    with catch_signals() as outer, outer.defer(), catch_signals() as inner:
        send(signal.SIGTERM)
        assert inner is outer
    assert outer.after(1) == signal.SIGTERM
    with catch_signals() as later:
        assert later.after(1) is None


def test_another_thread_than_the_main_one_catches_none():
    handlers = []

    def run():
        with catch_signals() as stop:
            handlers.append(signal.getsignal(signal.SIGTERM))
            stop.check()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.SIG_DFL]


def test_a_training_in_another_thread_leaves_the_main_one_its_signals():
    entered, done = threading.Event(), threading.Event()

    def train_elsewhere():
        with catch_signals():
            entered.set()
            done.wait(10)

    other = threading.Thread(target=train_elsewhere)
    other.start()
    entered.wait(10)
    with pytest.raises(Interrupted, match="SIGTERM"), catch_signals():
        send(signal.SIGTERM)
    done.set()
    other.join()
