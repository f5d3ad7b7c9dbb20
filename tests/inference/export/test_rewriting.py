"""Programs rewritten with other operations compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.errors import UserError
from ranet_jax.inference.export.rewriting import rewritten, top_k_by_sorting
from ranet_jax.inference.export.tflite import RULES

lax = jax.lax
GENERATOR = np.random.default_rng(0)
FLOATS = GENERATOR.normal(size=(3, 6, 2)).astype(np.float32)
INTEGERS = GENERATOR.integers(-2, 3, (3, 6, 2)).astype(np.int32)
PLACES = np.array([0, 2, 9, 5], np.int32)


def primitives(function, argument):
    names = set()

    def look(jaxpr):
        for equation in jaxpr.eqns:
            names.add(equation.primitive.name)
            for value in equation.params.values():
                for each in value if isinstance(value, list | tuple) else [value]:
                    each = getattr(each, "jaxpr", each)
                    if hasattr(each, "eqns"):
                        look(each)

    look(jax.make_jaxpr(function)(argument).jaxpr)
    return names


@pytest.mark.parametrize("array", [FLOATS, INTEGERS, np.full((2, 4), -np.inf, np.float32)])
def test_the_largest_by_sorting_are_in_the_same_order(array):
    def function(x):
        return tuple(lax.top_k(x.mT, 2))

    other = rewritten(function, {"top_k": top_k_by_sorting})
    assert "top_k" not in primitives(other, array)
    for got, wanted in zip(jax.jit(other)(array), function(jnp.asarray(array)), strict=True):
        np.testing.assert_array_equal(got, wanted)


def scattered(method, places=PLACES):
    def function(x):
        rows = jnp.asarray(places) + 0 * x[0, 0, 0].astype(jnp.int32)
        values = x[0, : len(places)]
        return jax.vmap(lambda each: getattr(each.at[rows], method)(values, mode="drop"))(x)

    return function


CASES = {
    "set": (FLOATS, scattered("set")),
    "add": (FLOATS, scattered("add", np.array([1, 1, -9, 3], np.int32))),
    "add integers": (INTEGERS, scattered("add", np.array([1, 1, 9, 3], np.int32))),
    "max": (INTEGERS, scattered("max", np.array([1, 1, 9, 3], np.int32))),
    "max of truths": (FLOATS, lambda x: (x > 1).at[:, PLACES].max(x[:, :4] > 0)),
    "gather": (INTEGERS, lambda x: x.at[:, PLACES + x[0, 0, 0]].get(mode="fill", fill_value=7)),
    "gather nan": (FLOATS, lambda x: x.at[:, PLACES].get(mode="fill")),
    "gather clip": (INTEGERS, lambda x: x.at[:, PLACES + x[0, 0, 0]].get(mode="clip")),
    "sort": (INTEGERS, lambda x: jnp.sort(x.mT)),
    "sort by keys": (INTEGERS, lambda x: tuple(lax.sort((x[0].T, x[1].T, x[2].T), num_keys=2))),
    "scan": (FLOATS, lambda x: lax.scan(lambda c, row: (c + row, c * row), x[0], x, reverse=True)),
    "branches": (FLOATS, lambda x: lax.cond(x[0, 0, 0] > 9, lambda x: x + 1, lambda x: x * 2, x)),
    "loop": (FLOATS, lambda x: lax.fori_loop(jnp.int32(0), jnp.int32(3), lambda i, c: c * 2, x)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_litert_lacks_is_computed_otherwise(name):
    array, function = CASES[name]
    other = rewritten(lambda x: jax.tree.leaves(function(x)), RULES, fold=True)
    assert not primitives(other, array) & {"scatter", "scatter-add", "scatter-max", "sort", "scan"}
    expected = jax.tree.leaves(function(jnp.asarray(array)))
    for got, wanted in zip(jax.jit(other)(array), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_the_choice_for_other_platforms_is_taken():
    def function(x):
        return lax.platform_dependent(x, cpu=jnp.sin, tpu=jnp.tan, default=jnp.cos)

    other = rewritten(function, RULES, fold=True)
    assert not primitives(other, FLOATS) & {"cond", "sin", "tan"}
    np.testing.assert_allclose(jax.jit(other)(FLOATS)[0], np.cos(FLOATS), rtol=1e-6)


@pytest.mark.parametrize(
    "function, what",
    [
        (lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x), "a loop"),
        (lambda x: jnp.sort(x, axis=0), "axis other than the last"),
        (lambda x: x.at[:, PLACES].set(x[:, :4], mode="clip"), "a scatter of windows"),
    ],
)
def test_what_litert_cannot_carry_is_named(function, what):
    with pytest.raises(
        UserError,
        match=rf"^Format tflite (lacks|does not support) .*{what}.* choose another format",
    ):
        jax.jit(rewritten(function, RULES, fold=True))(FLOATS)
