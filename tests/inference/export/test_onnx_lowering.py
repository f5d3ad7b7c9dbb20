"""Operations in ONNX Runtime, compared with those of JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from ranet_jax.errors import UserError
from ranet_jax.inference.export.onnx_lowering import to_onnx

GENERATOR = np.random.default_rng(0)
FLOATS = GENERATOR.normal(size=(3, 4, 5)).astype(np.float32)
# Some entries are equal.
INTEGERS = GENERATOR.integers(-3, 4, (3, 4, 5)).astype(np.int32)
PLACES = np.array([0, 2, -1, 7, -9, 3], np.int32)
KERNEL = GENERATOR.normal(size=(3, 2, 1, 4)).astype(np.float32)
lax = jax.lax


def in_onnx_runtime(function, argument):
    shape = jax.ShapeDtypeStruct(argument.shape, argument.dtype)

    def listed(x):
        return tuple(jax.tree.leaves(function(x)))

    names = [f"result_{n}" for n in range(len(jax.eval_shape(listed, shape)))]
    model = to_onnx(listed, shape, "x", names)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(names, {"x": argument})


def at(x, mode, fill=None):
    return x.at[jnp.asarray(PLACES)].get(mode=mode, fill_value=fill)


def two_axes(x):
    rows, columns = jnp.asarray(PLACES) % 4, jnp.asarray(PLACES)
    return x.at[:, rows, columns].get(mode="fill", fill_value=-7)


def written(x, method, mode="drop"):
    places = jnp.asarray(PLACES) if method in ("add", "max", "min") else jnp.array([2, 9, 0])
    values = jnp.arange(len(places), dtype=x.dtype)[:, None, None] + x[:1]
    return getattr(x.at[places], method)(values, mode=mode)


def batched_rows(x):
    return jax.vmap(lambda each, place: each.at[place].get(mode="clip"))(x, x[:, :, 0] % 6)


def batched_windows(x):
    starts = jnp.array([0, 2, 9], jnp.int32)
    return jax.vmap(lambda each, start: lax.dynamic_slice(each, (start, 1), (2, 3)))(x, starts)


def update(x):
    return lax.dynamic_update_slice(x, x[:2] * 2, (x[0, 0, 0] + 9, 0, 0))


def until_large(x):
    return lax.while_loop(lambda c: jnp.sum(c[1]) < 40, lambda c: (c[0] + 1, c[1] + 2), (0, x))


def running(x, reverse):
    return lax.scan(lambda c, row: (c + row, c * row), x[0], x, reverse=reverse)


def branch(x, least):
    return lax.cond(jnp.max(x) > least, lambda x: x * 2, lambda x: x - 1, x)


def convolution(x):
    numbers = lax.conv_dimension_numbers((1, 3, 4, 5), KERNEL.shape, ("NHCW", "HWIO", "NHWC"))
    return lax.conv_general_dilated(
        x[None],
        jnp.asarray(KERNEL),
        (1, 2),
        ((2, 1), (0, 1)),
        rhs_dilation=(2, 1),
        dimension_numbers=numbers,
        feature_group_count=4,
    )


def pooled(x, start, operation):
    padding = ((1, 0), (0, 1), (0, 0))
    return lax.reduce_window(x, start, operation, (2, 3, 1), (1, 2, 1), padding)


CASES = {
    "arithmetic": (FLOATS, lambda x: (x**2, x**3, lax.rsqrt(abs(x)), jnp.log1p(abs(x)))),
    "remainder": (INTEGERS, lambda x: (lax.rem(x, jnp.full_like(x, 3)), lax.sign(x))),
    "round": (FLOATS, lambda x: (jnp.round(x * 4) / 2, jnp.clip(x, -0.5, 1), jnp.floor(x))),
    "half": (np.array([0.5, 1.5, -2.5, 2.4], np.float32), jnp.round),
    "logic": (INTEGERS, lambda x: ((x > 1) & ~(x == 2) | (x != 0), x & 3, jnp.isfinite(x))),
    "choice": (FLOATS, lambda x: (jnp.where(x > 0, x, 0), jnp.where(x[0] > 0, x[1] > 0, x[2] > 0))),
    "reductions": (FLOATS, lambda x: (x.sum((0, 2)), x.max(1), x.min(), (x > 1).any(1))),
    "largest": (INTEGERS, lambda x: (x.argmax(1), x.argmin(0), (x > 0).argmax(2))),
    "cumulative": (INTEGERS, lambda x: (jnp.cumsum(x, 1), lax.cumsum(x, 0, reverse=True))),
    "sorted": (INTEGERS, lambda x: jnp.sort(x, axis=1)),
    "sorted by keys": (INTEGERS, lambda x: lax.sort((x[0], x[1], x[2]), num_keys=2)),
    "top": (INTEGERS, lambda x: lax.top_k(x, 3)),
    "gather fill": (FLOATS, functools.partial(at, mode="fill", fill=0.0)),
    "gather nan": (FLOATS, functools.partial(at, mode="fill")),
    "gather clip": (INTEGERS, functools.partial(at, mode="clip")),
    "gather bool": (INTEGERS, lambda x: at(x > 0, "fill", False)),
    "gather axes": (INTEGERS, two_axes),
    "gather batch": (INTEGERS, batched_rows),
    "gather windows": (FLOATS, batched_windows),
    "scatter": (FLOATS, functools.partial(written, method="set")),
    "scatter add": (FLOATS, functools.partial(written, method="add")),
    "scatter max": (INTEGERS, functools.partial(written, method="max")),
    "scatter min": (INTEGERS, functools.partial(written, method="min", mode="clip")),
    "dynamic slice": (INTEGERS, lambda x: lax.dynamic_slice(x, (x[0, 0, 0] + 7, 1, 0), (2, 2, 5))),
    "dynamic update": (INTEGERS, update),
    "slices": (FLOATS, lambda x: (x[::2, 1:3, ::-1], jnp.split(x, (1, 3), 2), jnp.flip(x, (0, 2)))),
    "padding": (FLOATS, lambda x: lax.pad(x, 1.5, ((1, 0, 0), (-1, 2, 0), (0, -2, 0)))),
    "shapes": (FLOATS, lambda x: (jnp.broadcast_to(x.mT[:, None], (3, 2, 5, 4)).reshape(6, -1),)),
    "while": (INTEGERS, until_large),
    "scan": (FLOATS, functools.partial(running, reverse=False)),
    "scan reversed": (FLOATS, functools.partial(running, reverse=True)),
    "branches": (FLOATS, lambda x: (branch(x, 0), branch(x, 9))),
    "product": (FLOATS, lambda x: jnp.einsum("abc,adc->dab", x, x * 2)),
    "convolution": (FLOATS, convolution),
    "largest of windows": (FLOATS, lambda x: pooled(x, -jnp.inf, lax.max)),
    "sum of windows": (FLOATS, lambda x: pooled(x, 0.0, lax.add)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_what_jax_gives(name):
    argument, function = CASES[name]
    expected = jax.tree.leaves(jax.jit(function)(argument))
    for got, wanted in zip(in_onnx_runtime(function, argument), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_the_choice_for_other_platforms_is_taken():
    def function(x):
        return (lax.platform_dependent(x, cpu=jnp.exp, tpu=jnp.abs, default=jnp.negative),)

    (got,) = in_onnx_runtime(function, FLOATS)
    np.testing.assert_array_equal(got, -FLOATS)


def test_an_operation_that_is_not_carried_over_is_named():
    with pytest.raises(UserError, match="lacks the operation fft of the network"):
        in_onnx_runtime(lambda x: jnp.real(jnp.fft.fft(x)), FLOATS)
    with pytest.raises(UserError, match="transposed convolution"):
        in_onnx_runtime(lambda x: lax.conv_transpose(x, jnp.ones((2, 5, 1)), (2,), "SAME"), FLOATS)
