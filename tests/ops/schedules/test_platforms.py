"""An operation for which each platform traces only its own order, under any transformation."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.ops.schedules.platforms import by_platform

MATRIX, VECTOR = jnp.arange(6.0).reshape(2, 3), jnp.arange(1.0, 4.0)


def results(pair, scale):
    return {"rows": jax.ShapeDtypeStruct(pair[0].shape[:1], jnp.float32), "same": pair[1]}


def on_cpu(pair, scale):
    matrix, vector = pair
    return {"rows": matrix @ vector, "same": scale * vector}


def elsewhere(pair, scale):
    raise RuntimeError("traced for a platform that nobody asked for")


def negated(pair, scale):
    return jax.tree.map(jnp.negative, on_cpu(pair, scale))


operation = by_platform(results, elsewhere, cpu=on_cpu, tpu=negated)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_results_are_those_of_the_platform(transform):
    found = transform(operation)((MATRIX, VECTOR), jnp.float32(2))
    np.testing.assert_array_equal(found["rows"], [8, 26])
    np.testing.assert_array_equal(found["same"], [2, 4, 6])


@pytest.mark.parametrize("axes", [((0, None), None), ((2, 1), 0), ((None, 0), None), ((1, 1), 0)])
def test_vmap_equals_that_of_the_function(axes):
    rng = np.random.default_rng(0)

    def batched(shape, axis):
        shape = shape if axis is None else (*shape[:axis], 5, *shape[axis:])
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    (first, second), third = axes
    arguments = (batched((2, 3), first), batched((3,), second)), batched((), third)
    expected = jax.vmap(on_cpu, axes)(*arguments)
    for transform in (lambda f: f, jax.jit):
        found = transform(jax.vmap(operation, axes))(*arguments)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_batches_of_batches_keep_their_order():
    def outer(function):
        inner = jax.vmap(function, ((0, None), None))
        return jax.vmap(inner, ((None, 0), 0))

    matrices = jnp.stack([MATRIX, -MATRIX, 2 * MATRIX])
    vectors, scales = jnp.stack([VECTOR, 10 * VECTOR]), jnp.array([1.0, 0.5])
    found = outer(operation)((matrices, vectors), scales)
    assert found["rows"].shape == (2, 3, 2)
    expected = outer(on_cpu)((matrices, vectors), scales)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_a_program_is_lowered_for_the_platforms_that_are_asked_for():
    arguments = (MATRIX, VECTOR), jnp.float32(2)

    def lowered(*platforms):
        return jax.export.export(jax.jit(operation), platforms=platforms)(*arguments)

    assert "negate" not in lowered("cpu").mlir_module()
    assert lowered("tpu").mlir_module().count("negate") == 2
    assert "negate" in lowered("cpu", "tpu").mlir_module()
    with pytest.raises(RuntimeError, match="nobody asked for"):
        lowered("cuda")


def test_nothing_is_traced_before_the_program_is_lowered():
    untraceable = by_platform(results, elsewhere)
    shapes = jax.eval_shape(untraceable, (MATRIX, VECTOR), jnp.float32(2))
    assert jax.tree.map(lambda x: x.shape, shapes) == {"rows": (2,), "same": (3,)}
