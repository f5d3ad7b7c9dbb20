"""Order and ties: operations that depend on order, or choose the wrong one of equal entries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.failures import fails, softmax
from ranet_jax.testing import check_equivariance, check_permutation, check_ties, inputs

FEATURES = inputs.normal(0, (5, 3))
TIED = np.array([0.5, 0.9, 0.2, 0.9, 0.2, 0.9], np.float32)


def self_attention(x):
    return softmax(x @ x.T) @ x


def test_what_does_not_depend_on_the_order_passes():
    check_permutation(self_attention, FEATURES)
    check_permutation(lambda x: x @ x.T, FEATURES, out_axes=(0, 1))
    check_permutation(lambda x: x @ x.T, FEATURES, in_axes=1, out_axes=None)
    table = FEATURES @ FEATURES.T
    check_permutation(lambda t, x: t @ x, table, FEATURES, in_axes=[(0, 1), 0])


def test_a_position_that_counts_is_found():
    sentence = fails(check_permutation, lambda x: x * jnp.arange(5.0)[:, None], FEATURES)
    assert "the result in another order at [" in sentence
    assert "is expected from the original order" in sentence


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_every_place_changes_its_position(size, seed):
    seen = []

    def note_order(x):
        seen.append(np.asarray(x))
        return x

    check_permutation(note_order, jnp.arange(float(size)), seed=seed)
    assert np.all(seen[0] != np.arange(size))
    assert sorted(seen[0]) == list(range(size))


def test_axes_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match=r"their sizes are \[3, 5\]"):
        check_permutation(self_attention, FEATURES, in_axes=[(0, 1)])


def test_a_mirrored_image():
    def mirror(x):
        return x[:, ::-1]

    def shift(x):
        return jnp.roll(x, 1, axis=1)

    change = {"before": lambda x: (mirror(x),), "after": mirror}
    check_equivariance(lambda x: x**2, FEATURES, **change)
    assert "is expected from the changed result" in fails(
        check_equivariance, shift, FEATURES, **change
    )


def first_largest(x):
    return jnp.argmax(x)


def last_largest(x):
    return x.shape[0] - 1 - jnp.argmax(x[::-1])


def value_of(choose):
    return lambda x: x[choose(x)]


def test_the_preferred_of_equal_entries_passes():
    check_ties(first_largest, TIED)
    check_ties(last_largest, TIED, prefer="last")
    check_ties(lambda x: jnp.argmin(x), TIED, smallest=True)
    check_ties(lambda x: x.shape[0] - 1 - jnp.argmin(x[::-1]), TIED, prefer="last", smallest=True)
    check_ties(value_of(first_largest), TIED)


def test_a_tie_that_is_broken_the_other_way_is_found():
    sentence = fails(check_ties, last_largest, TIED)
    expected = "1 is expected from a call with the first tied entry preferred by 0.0001"
    assert f"the result is 5, but {expected}" in sentence
    fails(check_ties, first_largest, TIED, prefer="last")
    fails(check_ties, lambda x: jnp.argmin(x), TIED, prefer="last", smallest=True)


def test_a_gradient_that_goes_to_another_is_found():
    sentence = fails(check_ties, value_of(last_largest), TIED)
    assert "the gradient with respect to argument 0 (x) at [" in sentence
    # JAX's maximum shares the gradient among all that are equal.
    fails(check_ties, jnp.max, TIED)


def test_arguments_without_ties_are_refused():
    for untied in (np.arange(3.0), np.zeros(3, int)):
        with pytest.raises(ValueError, match="floats that holds ties"):
            check_ties(jax.lax.sort, untied)
