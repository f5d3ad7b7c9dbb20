"""Which errors say that another process cannot be reached."""

import pytest

from ranet_jax.errors import UserError
from ranet_jax.training.processes import is_lost_connection

GLOO = "UNKNOWN: Gloo AllGather failed: [pair.cc:538] Read error: Connection reset by peer"


def wrapped(cause):
    try:
        try:
            raise cause
        except Exception as error:
            raise UserError("Step 4 cannot be saved to runs; make room.") from error
    except UserError as error:
        return error


@pytest.mark.parametrize(
    "error, lost",
    [
        (ValueError(GLOO), True),
        (RuntimeError("NCCL operation ncclAllReduce failed: remote process exited"), True),
        (wrapped(ValueError(GLOO)), True),
        (wrapped(OSError("No space left on device")), False),
        (UserError("A label holds the value 77."), False),
        (KeyError("Gloo"), False),
        (None, False),
    ],
)
def test_what_says_that_a_process_is_lost(error, lost):
    assert is_lost_connection(error) is lost
