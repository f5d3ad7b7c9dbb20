"""Checks of an attention operation of one's own: the battery that `ranet_jax.ops` is tested with.

An operation is a function of arrays, or of pytrees of them, for one example; whatever else it takes
is bound before, by `functools.partial`.

    check               shows that
    check_value         the results are those of a reference
    check_gradients     the gradients are finite differences, in float64
    check_finite        results and gradients are finite, however large or small the arguments
    check_dtypes        results and gradients keep the dtype of the arguments
    check_jit           the results under `jax.jit` are those without
    check_vmap          the results of a batch are those of its examples
    check_batch         an operation on batches takes each example as if it was alone
    check_masking       a masked place might as well be deleted, and a mask may be empty
    check_permutation   another order of the arguments gives the same results in that order
    check_equivariance  the same of any change of the arguments and of the results
    check_ties          of equal entries the first, or the last, is chosen
    check_operation     all that need no more than arguments and a reference

Each raises `AssertionError` with one sentence: the check, the argument or result, the place in it,
the two values and the tolerance. Two floats are the same if they differ by no more than
atol + rtol x |expected|; integers and bools are compared exactly.

`ranet_jax.testing.inputs` draws what attention is given: distributions, boundary maps, masks with
empty rows, ties.
"""

from ranet_jax.testing import inputs
from ranet_jax.testing.battery import check_operation
from ranet_jax.testing.gradients import check_finite, check_gradients
from ranet_jax.testing.masking import check_masking
from ranet_jax.testing.order import check_equivariance, check_permutation, check_ties
from ranet_jax.testing.transformations import check_batch, check_jit, check_vmap
from ranet_jax.testing.values import check_dtypes, check_value

__all__ = [
    "check_batch",
    "check_dtypes",
    "check_equivariance",
    "check_finite",
    "check_gradients",
    "check_jit",
    "check_masking",
    "check_operation",
    "check_permutation",
    "check_ties",
    "check_value",
    "check_vmap",
    "inputs",
]
