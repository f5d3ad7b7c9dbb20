"""Programs in a terminal."""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios

# Variables that would make a terminal look like something else.
SETTINGS = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def run_in_terminal(*arguments, columns=80, **environment):
    """What Python prints with these arguments in a pseudo-terminal of so many columns."""
    known = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    program = subprocess.Popen(
        [sys.executable, *arguments],
        env={**known, "TERM": "xterm-256color", **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    parts = []
    with contextlib.suppress(OSError):  # Linux reports the end this way
        while part := os.read(master, 4096):
            parts.append(part)
    os.close(master)
    assert program.wait() == 0, b"".join(parts).decode()
    return b"".join(parts).decode().replace("\r\n", "\n")
