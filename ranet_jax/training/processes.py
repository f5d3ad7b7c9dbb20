"""Several processes that train as one: how they meet, and how one that fails ends them all.

JAX's coordination service, which runs in process 0, receives the heartbeats of all processes. When
one of them is lost, JAX aborts the others, and `ranet train` reports that in one sentence
(`ranet_jax.cli.supervise`). The service does not handle an error in one process, such as a label
out of range. This module reports it to the other processes, which would otherwise wait for the one
that failed.
"""

import atexit
import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.files import reason
from ranet_jax.training.process_options import (
    JOIN_TIMEOUT,
    LOST,
    LOST_AFTER,
    check_processes,
)

_FAILURE, _END, _DONE = "ranet_jax/failure", "ranet_jax/end", "ranet_jax/done"
# Seconds that the others have left when one has failed, for example to report their own error.
_GRACE = 5.0
_LOOK_EVERY = 1.0
_LOST_WORDS = re.compile(
    "Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|[Cc]onnection (reset|closed|refused)|Socket closed"
)
_ending = threading.Lock()


def join(
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
    timeout: int = JOIN_TIMEOUT,
    lost_after: int = LOST_AFTER,
) -> None:
    """Join the other processes, before anything else is done with JAX.

    All devices exchange a number right away: on CPUs, the first exchange fails when a process is 30
    seconds late for it, and reading data or compiling may delay some processes by that much.

    Args:
      coordinator: "HOST:PORT" of process 0; with None, here and below, JAX finds out by itself.
      count: number of processes.
      index: number of this process, from 0.
      timeout: seconds to wait for the last process; after that, JAX aborts this process.
      lost_after: seconds without a heartbeat after which a process counts as lost.

    Raises:
      UserError: an argument is wrong, or JAX cannot find out one that is None.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    check_processes(coordinator, count, index, timeout, lost_after)
    if coordinator is not None and index == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=lost_after,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"The processes cannot find one another: {first_sentence(error)}; see launch/README.md."
        ) from error
    if jax.process_count() > 1:
        ones = np.ones(jax.local_device_count(), np.float32)
        jax.pmap(lambda one: jax.lax.psum(one, "all"), "all")(ones).block_until_ready()
        multihost_utils.process_allgather(np.zeros((), np.float32))
        multihost_utils.broadcast_one_to_all(np.zeros((), np.float32))


def _check_port(port: int) -> None:
    """Raise `UserError` if another program uses the port, which would make JAX crash."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"Process 0 cannot use port {port} ({reason(error)}); give all processes"
                " another port."
            ) from error


def is_lost_connection(error: BaseException | None) -> bool:
    """Whether an exception, or what caused it, says that another process cannot be reached."""
    while error is not None:
        if isinstance(error, RuntimeError | ValueError) and _LOST_WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def one_fate(going_on: Callable[[], str], lost_after: int = LOST_AFTER) -> Iterator[None]:
    """End all processes when an exception ends one of them.

    The process that failed raises its exception and ends with exit status 1 (130 after Ctrl-C) once
    the others have heard of it. Each of the others says which process failed and why, and ends with
    status 1. A process that cannot reach another one ends with status `LOST`: it waits for JAX,
    which knows the lost process, to abort it, and otherwise ends by itself.

    Args:
      going_on: returns the end of a sentence, which says how to go on.
      lost_after: the value that `join` was given.
    """
    if jax.process_count() == 1:
        yield
        return
    client, over = _client(), threading.Event()
    watch = threading.Thread(target=_watch, args=(client, over), daemon=True)
    watch.start()
    try:
        yield
        # A process that ended well is not started again: one lost now would wait for it in vain.
        client.wait_at_barrier(_DONE, 1000 * JOIN_TIMEOUT)
    except KeyboardInterrupt:
        _tell_others(client, "it was interrupted.", status=130)
        raise
    except Exception as error:
        if is_lost_connection(error):
            time.sleep(1.5 * lost_after + 5)  # JAX aborts this process meanwhile
            _say(f"The connection to another process is lost ({_cause(error)}); {going_on()}.")
            os._exit(LOST)
        words = str(error) if isinstance(error, UserError) else first_sentence(error)
        _tell_others(client, words, status=1)
        raise
    finally:
        over.set()
        watch.join(_GRACE)  # Python cannot exit cleanly while a thread is in a call to JAX


def _tell_others(client: Any, words: str, status: int) -> None:
    """Tell the other processes why they must end, and make this one end with a status."""
    _ending.acquire()  # never released: this process reports its own reason
    with contextlib.suppress(Exception):  # another process failed first
        client.key_value_set(_FAILURE, f"{jax.process_index()}:{words}")
    # Runs before JAX's own exit handler, which would wait for processes that have ended.
    atexit.register(_leave, client, status)


def _client() -> Any:
    """JAX's client of the coordination service, which has no public interface."""
    from jax._src import distributed

    return distributed.global_state.client


def _watch(client: Any, over: threading.Event) -> None:
    """Wait until another process fails, then end this one, unless it ends by itself."""
    text = None
    while text is None:
        if over.wait(_LOOK_EVERY):
            return
        with contextlib.suppress(Exception):  # no process has failed so far
            text = client.key_value_try_get(_FAILURE)
    if over.wait(_GRACE):
        return
    _ending.acquire()
    index, _, words = text.partition(":")
    _say(f"Process {index} has ended, and so does this one: {words}")
    _leave(client, status=1)


def _leave(client: Any, status: int) -> None:
    """End this process, once all others have heard that they must end."""
    with contextlib.suppress(Exception):  # for example, a process is lost
        client.wait_at_barrier(_END, int(4000 * _GRACE))
    if jax.process_index() == 0:
        time.sleep(1)  # the others would take the end of the coordinator for an error
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_sentence(error)


def _say(sentence: str) -> None:
    print(f"ranet: {sentence}", file=sys.stderr, flush=True)
