"""What the battery of every operation needs: an oracle for gradients, and docstring tables."""

import inspect

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def check_gradients(rng):
    """Compare JAX gradients with central differences of a float64 oracle."""

    def check(function, oracle, *arguments, step=1e-5, atol=2e-4):
        exact = [np.asarray(x, np.float32).astype(np.float64) for x in arguments]
        weights = rng.normal(size=oracle(*exact).shape)

        def loss(*arguments):
            return jnp.sum(function(*arguments) * jnp.asarray(weights, jnp.float32))

        single = [jnp.asarray(x, jnp.float32) for x in exact]
        gradients = jax.jit(jax.grad(loss, argnums=tuple(range(len(single)))))(*single)
        for number, gradient in enumerate(gradients):
            expected = np.zeros_like(exact[number])
            for place in np.ndindex(expected.shape):
                ends = []
                for sign in (1, -1):
                    moved = [x.copy() for x in exact]
                    moved[number][place] += sign * step
                    ends.append(np.sum(oracle(*moved) * weights))
                expected[place] = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=atol)

    return check


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
