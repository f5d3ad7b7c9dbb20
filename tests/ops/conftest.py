"""Fixtures that tests of operations need besides `ranet_jax.testing`, such as docstring tables."""

import inspect

import jaxtyping
import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def docstring_table():
    """Words of the rows below a heading in a function's docstring, up to the next blank line."""

    def read(function, heading):
        lines = [line.split() for line in inspect.getdoc(function).splitlines()]
        first = next(i for i, words in enumerate(lines) if words[: len(heading)] == heading)
        last = next((i for i in range(first, len(lines)) if not lines[i]), len(lines))
        return lines[first + 1 : last]

    return read


@pytest.fixture
def without_jaxtyping():
    """Run without the shape checks of the tests, as a user does."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
