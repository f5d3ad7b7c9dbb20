"""A clip, and Ctrl-C that interrupts."""

import signal

import pytest

from helpers.clips import moving_blocks, write_clip


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts():
    """Let Ctrl-C interrupt as in a terminal, even if the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def clip(tmp_path):
    """Twelve frames of moving blocks."""
    write_clip(tmp_path / "clip.mp4", moving_blocks(12))
    return tmp_path / "clip.mp4"
