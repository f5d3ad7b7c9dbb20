"""State dicts with gaps, and the report about them."""

import re

import pytest

from ranet_jax.errors import UserError
from ranet_jax.porting import Misfit, port_state_dict


def without(state, pattern):
    return {name: value for name, value in state.items() if not re.search(pattern, name)}


def report(state, model="resnet18", **arguments):
    """All lines of a report, however long."""
    with pytest.raises(UserError) as caught:
        port_state_dict(state, model, **arguments)
    error = caught.value
    return (error.report() if isinstance(error, Misfit) else str(error)).splitlines()


def refused(state, model="resnet18", **arguments):
    (line,) = report(state, model, **arguments)
    assert line.endswith(".")
    return line
