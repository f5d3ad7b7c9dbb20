"""Checks for your own attention operations: the same checks that test `ranet_jax.ops`.

An operation is a function of arrays, or of pytrees of arrays, for one example. Bind any other
arguments beforehand, with `functools.partial`.

    check               shows that
    check_value         the results equal those of a reference
    check_gradients     the gradients equal finite differences, in float64
    check_finite        results and gradients are finite, however large or small the arguments
    check_dtypes        results and gradients keep the dtype of the arguments
    check_jit           the results are the same with and without `jax.jit`
    check_vmap          the results of a batch equal those of its examples
    check_batch         an operation on batches treats each example as if it were alone
    check_masking       masking a place is equivalent to deleting it, and a mask may be empty
    check_permutation   arguments in another order give the same results in that order
    check_equivariance  a change of the arguments changes the results in the expected way
    check_ties          the first, or the last, of equal entries is chosen
    check_operation     all checks that need only arguments and a reference

Each check raises `AssertionError` with one sentence that names the check, the argument or result,
the place in it, the two values and the tolerance. Two floats count as equal if they differ by no
more than atol + rtol x |expected|; integers and bools are compared exactly.

`ranet_jax.testing.inputs` draws typical inputs of attention: distributions, boundary maps, masks
with empty rows, ties.
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
