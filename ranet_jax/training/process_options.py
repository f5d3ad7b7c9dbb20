"""Options of several processes, their checks, and the exit status of one that lost the others."""

import os
import re

from ranet_jax.errors import LARGEST_COUNT, UserError, check_counts

# Exit status of a process that lost the others (EX_TEMPFAIL): when restarted, all of them resume.
LOST = os.EX_TEMPFAIL
# A process that sends no heartbeat for this many seconds counts as lost.
LOST_AFTER = 30
# Processes wait this many seconds for the last of them to join.
JOIN_TIMEOUT = 300

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


def check_processes(
    coordinator: str | None,
    count: int | None,
    index: int | None,
    timeout: int = JOIN_TIMEOUT,
    lost_after: int = LOST_AFTER,
) -> None:
    """Check that the values that describe the processes are possible; JAX finds out what is None.

    Args:
      coordinator: "HOST:PORT" of process 0.
      count: number of processes.
      index: number of this process, from 0.
      timeout: seconds to wait for the last process.
      lost_after: seconds without a heartbeat after which a process counts as lost.

    Raises:
      UserError: a value is not possible.
    """
    if coordinator is not None:
        match = _ADDRESS.fullmatch(coordinator)
        if match is None or not 0 < int(match[2]) < 2**16:
            raise UserError(
                f"The coordinator {coordinator!r} is not HOST:PORT; give the host of process 0 and"
                " a free port there from 1 to 65535, such as node0:12355."
            )
    if count is not None:
        check_counts({"number of processes": count})
    last = (LARGEST_COUNT if count is None else count) - 1
    if index is not None and not 0 <= index <= last:
        raise UserError(f"There is no process {index}; processes are numbered from 0 to {last}.")
    for name, seconds in (("wait for the processes", timeout), ("hear from a process", lost_after)):
        if not 1 <= seconds <= 100_000:
            raise UserError(f"The time to {name} is {seconds} s; give 1 to 100000.")
