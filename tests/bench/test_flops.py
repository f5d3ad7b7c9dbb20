"""FLOPs by formula against counts made by hand."""

import jax
import jax.numpy as jnp
import pytest

from ranet_jax.bench.flops import count_flops


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def flops(function, *arguments):
    """FLOPs of the matrix products in a function that has no convolution."""
    counted = count_flops(function, *arguments)
    assert counted["conv_general_dilated"] == 0
    return counted["dot_general"]


def test_dense_layer():
    def layer(x, kernel, bias):
        return jnp.tanh(x @ kernel + bias[None])

    assert flops(layer, shape(5, 3), shape(3, 4), shape(4)) == 2 * 5 * 3 * 4


def test_batched_einsum():
    """Batch axes count once, and contracted axes count although the result lacks them."""
    einsum = jax.jit(lambda a, b: jnp.einsum("bqhd,bkhd->bhqk", a, b))
    assert flops(einsum, shape(2, 5, 3, 7), shape(2, 4, 3, 7)) == 2 * (2 * 3) * 5 * 4 * 7


@pytest.mark.parametrize(
    "options, pixels, groups",
    [
        ({"padding": "VALID"}, 6 * 8, 1),  # 8 x 10, less 2 on each axis
        ({"padding": ((1, 1), (1, 1))}, 8 * 10, 1),  # the zero padding counts
        ({"padding": ((1, 1), (1, 1)), "window_strides": (2, 2)}, 4 * 5, 1),
        ({"padding": "VALID", "rhs_dilation": (2, 3)}, 4 * 4, 1),  # kernels that span 5 and 7
        ({"padding": "VALID", "feature_group_count": 4}, 6 * 8, 4),
    ],
)
def test_convolution(options, pixels, groups):
    """A 3 x 3 convolution of two images of 8 x 10 pixels, 4 channels to 12."""

    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            **({"window_strides": (1, 1)} | options),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    counted = count_flops(convolve, shape(2, 8, 10, 4), shape(3, 3, 4 // groups, 12))
    expected = 2 * (2 * pixels * 12) * (9 * 4 // groups)
    assert counted == {"conv_general_dilated": expected, "dot_general": 0}


def square(x):
    return x @ x


ONCE = 2 * 4**3


@pytest.mark.parametrize(
    "function, times",
    [
        (jax.jit(square), 1),
        (jax.checkpoint(square), 1),
        (lambda x: jax.lax.scan(lambda x, _: (square(x), None), x, length=6)[0], 6),
        (lambda x: jax.lax.fori_loop(0, 3, lambda _, x: square(x), x), 3),
        (lambda x: jax.lax.map(lambda row: square(x) @ row, x), 4 + 1),
        (
            lambda x: jax.lax.cond(x[0, 0] > 0, square, lambda x: square(jax.jit(square)(x)), x),
            2,
        ),
        (jnp.sin, 0),
    ],
)
def test_what_nests(function, times):
    assert flops(function, shape(4, 4)) == times * ONCE


def test_custom_derivatives():
    @jax.custom_vjp
    def twice(x):
        return square(square(x))

    def forward(x):
        return twice(x), x

    def backward(x, cotangent):
        return (cotangent @ square(square(x)),)

    twice.defvjp(forward, backward)
    assert flops(twice, shape(4, 4)) == 2 * ONCE
    assert flops(jax.grad(lambda x: twice(x).sum()), shape(4, 4)) == (2 + 3) * ONCE

    @jax.custom_jvp
    def once(x):
        return square(x)

    once.defjvps(lambda tangent, _, x: tangent @ x)
    assert flops(once, shape(4, 4)) == ONCE


def test_a_loop_of_unknown_length():
    def until(step):
        return lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 1, step, x)

    assert flops(until(jnp.sin), shape(4, 4)) == 0
    with pytest.raises(ValueError, match=r"A while holds .* how often it runs them is not known"):
        count_flops(until(square), shape(4, 4))
