"""What the functions of `ranet_jax.ops` take and refuse, generated for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ranet_jax import ops
from ranet_jax.ops import checks

SHAPE, CATEGORIES, CHANNELS = (2, 3), 3, 4
PIXELS = 6
Y, X = np.indices(SHAPE)
# Convex, so that the largest score of a segment is at one of its ends; no two are equal.
BOUNDARY = 0.02 + 0.017 * (Y + 1.0) ** 2 + 0.011 * (X + 0.5) ** 2
RNG = np.random.default_rng(0)
ROWS = RNG.dirichlet(np.full(CATEGORIES, 8.0), PIXELS)
TABLE = RNG.uniform(0.1, 0.9, (PIXELS, PIXELS))
LABELS = np.array([0, 0, 2, 0, 2, 2])
SCORE = RNG.uniform(0.2, 0.9, PIXELS)
ROOTS = np.array([0, 2, -1])
INDICES = np.array([[1, 3], [4, 2], [0, 0]])
VALID = np.array([[True, True], [True, False], [False, False]])
PLACES = {"roots": ROOTS, "indices": INDICES, "valid": VALID}
FEATURES = RNG.normal(size=(PIXELS, CHANNELS))
CONTEXT = RNG.normal(size=(3, 2, CHANNELS))
MAPS = RNG.normal(size=(*SHAPE, CATEGORIES))


def with_places(function):
    """The function with the fields of `Representatives` as arguments."""

    def call(roots, indices, valid, **arguments):
        return function(**arguments, representatives=ops.Representatives(roots, indices, valid))

    return call


# Each function's arrays, and its other arguments.
CALLS = {
    "segment_max": (ops.segment_max, {"boundary": BOUNDARY}, {}),
    "jensen_shannon": (ops.jensen_shannon, {"probabilities": ROWS}, {}),
    "region_attention": (
        ops.region_attention,
        {"crossing": TABLE, "divergence": TABLE[::-1].copy()},
        {},
    ),
    "regularize": (
        ops.regularize,
        {"attention": TABLE, "kernel": np.full((3, 3), 0.05)},
        {"shape": SHAPE},
    ),
    "region_decision": (ops.region_decision, {"attention": TABLE}, {"threshold": 0.8}),
    "partition": (ops.partition, {"decision": LABELS[:, None] == LABELS}, {}),
    "representative_score": (
        ops.representative_score,
        {"attention": TABLE, "labels": LABELS},
        {},
    ),
    "region_map": (
        ops.region_map,
        {
            "boundary": BOUNDARY,
            "probabilities": ROWS.reshape(*SHAPE, CATEGORIES),
            "kernel": np.full((1, 1), 0.97),
        },
        {"threshold": 0.6},
    ),
    "select_representatives": (
        ops.select_representatives,
        {"score": SCORE, "labels": LABELS},
        {"num_regions": 3, "per_region": 2},
    ),
    "collect": (
        with_places(ops.collect),
        {"features": FEATURES, "score": SCORE, "labels": LABELS, **PLACES},
        {},
    ),
    "interact": (with_places(ops.interact), {"local": CONTEXT, "score": SCORE, **PLACES}, {}),
    "distribute": (
        with_places(ops.distribute),
        {"features": FEATURES, "score": SCORE, "labels": LABELS, "context": CONTEXT, **PLACES},
        {},
    ),
    "pixel_attention": (
        ops.pixel_attention,
        {
            "boundary": BOUNDARY,
            "probabilities": ROWS.reshape(*SHAPE, CATEGORIES),
            "kernel": np.full((1, 1), 0.97),
        },
        {"pixel": 3},
    ),
    "segment_samples": (
        ops.segment_samples,
        {"boundary": BOUNDARY},
        {"first": 0, "second": 5},
    ),
    "collection_weights": (
        with_places(ops.collection_weights),
        {"features": FEATURES, "score": SCORE, "labels": LABELS, **PLACES},
        {"slot": 1},
    ),
    "interaction_weights": (
        with_places(ops.interaction_weights),
        {"local": CONTEXT, "score": SCORE, **PLACES},
        {},
    ),
    "distribution_weights": (
        with_places(ops.distribution_weights),
        {"features": FEATURES, "score": SCORE, "labels": LABELS, "context": CONTEXT, **PLACES},
        {"pixel": 2},
    ),
    "boundary_target": (
        ops.boundary_target,
        {"labels": LABELS.reshape(SHAPE)},
        {"ignore_label": 255, "radius": 1.0},
    ),
    "boundary_cells": (
        ops.boundary_cells,
        {"labels": LABELS.reshape(SHAPE)},
        {"shape": (1, 2), "ignore_label": 255, "radius": 1.0},
    ),
    "resize_bilinear": (ops.resize_bilinear, {"x": MAPS}, {"shape": (4, 5)}),
    "adaptive_average_pool": (ops.adaptive_average_pool, {"x": MAPS}, {"bins": 2}),
    "nearest_indices": (ops.nearest_indices, {}, {"count": 3, "size": 6}),
    "nearest_grid": (ops.nearest_grid, {}, {"shape": (3, 2), "size": (6, 5)}),
}
DISCRETE = {
    "region_decision",
    "partition",
    "select_representatives",
    "boundary_target",
    "boundary_cells",
    "nearest_indices",
    "nearest_grid",
    "segment_samples",
}
# Functions that compute for one pixel what another function computes for all.
OF_ONE = {
    "pixel_attention",
    "collection_weights",
    "interaction_weights",
    "distribution_weights",
}


def by_name(names):
    return [pytest.param(name, marks=pytest.mark.long if name in OF_ONE else ()) for name in names]


# The score of these functions covers all pixels, unlike their other arrays.
SCORES_OF_PIXELS = {("interact", "score"), ("interaction_weights", "score")}


def single(arrays):
    return {
        name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in arrays.items()
    }


def array_faults():
    """A function, its arguments and the name of the wrong one: dtypes, ranks, sizes, values."""
    for name, (function, arrays, others) in CALLS.items():
        for argument, x in arrays.items():
            spoilt = {
                "float16": x.astype(np.float16),
                "integers": x.astype(np.int32),
                "bools": x.astype(bool),
                "complex": x.astype(np.complex64),
                "text": x.astype(str),
                "no axes": x.ravel()[0],
                "an axis more": np.stack([x]) if argument != "x" else x[0],
                "nothing": None,
                "ragged": [[0.5], [0.5, 0.5]],
            }
            own = {"f": "float16", "i": "integers", "b": "bools"}[x.dtype.kind]
            del spoilt[own]
            if argument in ("boundary", "probabilities"):
                spoilt |= {"logits": 4 * x - 2, "not a number": np.full_like(x, np.nan)}
            if argument == "probabilities":
                spoilt["unnormalised"] = x / 2
            if argument in ("labels", "indices") and {"score"} & arrays.keys():
                spoilt |= {"too large": x + PIXELS, "negative": x - PIXELS}
            if argument == "roots":
                spoilt |= {"too large": x + PIXELS, "negative": x - 2}
            for fault, wrong in spoilt.items():
                yield pytest.param(
                    function,
                    arrays | {argument: wrong} | others,
                    argument,
                    id=f"{name}-{argument}-{fault}",
                )
            sizes_its_own = argument == "kernel" or (name, argument) in SCORES_OF_PIXELS
            if len(arrays) > 1 and not sizes_its_own:
                yield pytest.param(
                    function,
                    arrays | {argument: np.concatenate([x, x])} | others,
                    "",
                    id=f"{name}-{argument}-longer",
                )


def other_faults():
    wrong = {
        "shape": ((0, 3), (6,), (2, 3, 1), (2.0, 3.0), 6, None),
        "num_regions": (0, -1, 2.0, None),
        "per_region": (0, 2.5, "2"),
        "bins": (0, 1.5),
        "count": (0, 2.0),
        "size": (0, 2.0),
        "pixel": (-1, PIXELS, 1.5, None),
        "first": (-1, PIXELS, 1.5, None),
        "second": (-1, PIXELS, 1.5, None),
        "slot": (-1, 3, 1.5, None),
        "threshold": ("0.8", None, np.full(PIXELS, 0.8), True),
        "radius": (-1.0, float("nan"), float("inf"), "1", None),
        "ignore_label": (2.5, "255", None),
    }
    for name, (function, arrays, others) in CALLS.items():
        for argument in others:
            for value in wrong[argument]:
                yield pytest.param(
                    function,
                    arrays | others | {argument: value},
                    argument,
                    id=f"{name}-{argument}-{value}",
                )


@pytest.mark.parametrize(("function", "arguments", "wrong"), [*array_faults(), *other_faults()])
def test_what_is_wrong_is_refused_by_name(function, arguments, wrong, without_jaxtyping):
    with pytest.raises(ValueError, match=rf"^{wrong}.* (must|does not hold)") as refused:
        function(**arguments)
    assert len(str(refused.value)) < 200


def test_every_function_is_covered():
    functions = set(ops.__all__) - {"Representatives", "PixelAttention", "SegmentSamples"}
    assert functions == CALLS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", by_name(CALLS))
def test_numpy_arrays_and_lists_are_as_good_as_jax_arrays(name, without_jaxtyping):
    function, arrays, others = CALLS[name]
    expected = function(**{key: jnp.asarray(x) for key, x in arrays.items()}, **others)
    listed = {key: list(x) if isinstance(x, tuple) else x for key, x in others.items()}
    numbers = {key: x if isinstance(x, tuple) else np.asarray(x)[()] for key, x in others.items()}
    for call in (
        {**arrays, **numbers},
        {**single(arrays), **numbers},
        {**{key: x.tolist() for key, x in arrays.items()}, **listed},
    ):
        jax.tree.map(np.testing.assert_array_equal, function(**call), expected)


def test_whole_numbers_of_python_serve_as_floats(without_jaxtyping):
    np.testing.assert_allclose(ops.regularize([[1, 0], [0, 1]], [[1]], [1, 2]), np.eye(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", by_name(sorted(CALLS.keys() - DISCRETE)))
@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_check_grads(name, convert):
    function, arrays, others = CALLS[name]
    floats = {key: convert(x, np.float32) for key, x in arrays.items() if x.dtype.kind == "f"}
    fixed = {key: convert(x) for key, x in arrays.items() if key not in floats}

    def differentiable(*values):
        result = function(**dict(zip(floats, values, strict=True)), **fixed, **others)
        return result[1] if name == "region_map" else result

    check_grads(differentiable, tuple(floats.values()), order=1, modes=["rev"])


def test_checks_leave_no_trace_in_a_program():
    def checked(boundary, rows, labels):
        return checks.as_arrays(
            boundary=(boundary, checks.PROBABILITIES, "h w"),
            rows=(rows, checks.DISTRIBUTIONS, "n c"),
            labels=(labels, checks.PIXELS, "n"),
        )

    arguments = jnp.ones((2, 3)), jnp.ones((6, 1)), jnp.zeros(6, jnp.int32)
    assert jax.make_jaxpr(checked)(*arguments).eqns == []


def test_values_are_unknown_while_a_program_is_traced():
    logits = jnp.full((4, 2), 3.0)
    with pytest.raises(ValueError, match="softmax"):
        ops.jensen_shannon(logits)
    jax.jit(ops.jensen_shannon)(logits)


@pytest.mark.slow
def test_probabilities_of_half_precision_are_taken():
    scores = 5 * RNG.normal(size=(50, 171))
    for dtype in (jnp.bfloat16, jnp.float16):
        ops.jensen_shannon(jax.nn.softmax(jnp.asarray(scores, dtype)))
