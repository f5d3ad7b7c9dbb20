"""`region_map` without tables, on every schedule, against the dense operations and float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax import ops
from ranet_jax.ops import dense, reference, streaming
from ranet_jax.ops.schedules import SCHEDULES, pairs
from ranet_jax.testing import check_gradients, check_vmap, inputs

THRESHOLD = 0.8


SHAPES = ((1, 1), (2, 2), (1, 9), (8, 5), (33, 33))
# The TPU's kernel runs in Pallas's interpreter here, so it gets fewer shapes and none large.
CASES = [
    *((schedule, (8, 5), weight) for schedule in SCHEDULES for weight in (0.97, 1.04)),
    *(("streaming", shape, 1.0) for shape in SHAPES),
    *(("planes", shape, 1.0) for shape in SHAPES[:-1]),
    pytest.param("planes", SHAPES[-1], 1.0, marks=pytest.mark.long),
    *(("kernel", shape, 1.0) for shape in ((1, 1), (1, 9))),
    pytest.param("kernel", (12, 9), 1.0, marks=pytest.mark.long),
]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
by_kind = pytest.mark.parametrize("kind", inputs.MAPS, ids=lambda kind: kind.__name__)


@functools.cache
def on(schedule):
    return functools.partial(streaming.region_map, schedule=schedule)


@functools.cache
def with_gradients(region_map):
    """A jitted function that gives labels, score, and gradients of a weighted sum of the score."""

    def loss(boundary, probabilities, kernel, weights):
        labels, score = region_map(boundary, probabilities, kernel, THRESHOLD)
        return jnp.sum(weights * score), (labels, score)

    def run(*arguments):
        gradients, aux = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(*arguments)
        return (*aux, gradients)

    return jax.jit(run)


def assert_close(found, expected):
    """Check that arrays differ by at most 1e-5 of the largest entry."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(scale, 1e-6))


@pytest.mark.slow
@by_kind
@pytest.mark.parametrize(("schedule", "shape", "weight"), CASES, ids=str)
def test_equals_the_dense_operations(schedule, shape, weight, kind):
    weights = np.random.default_rng(1).uniform(size=shape[0] * shape[1]).astype(np.float32)
    arguments = (*kind(0, shape), np.full((1, 1), weight, np.float32), weights)
    labels, score, gradients = with_gradients(on(schedule))(*arguments)
    expected = with_gradients(dense.region_map)(*arguments)
    np.testing.assert_array_equal(labels, expected[0])
    assert_close(score, expected[1])
    for found, wanted in zip(gradients[1:], expected[2][1:], strict=True):
        assert_close(found, wanted)
    if kind is inputs.smooth_maps:
        assert len(set(np.asarray(labels).tolist())) > 1 or shape != (33, 33)
    if kind in (inputs.smooth_maps, inputs.uniform_maps):
        assert_close(gradients[0], expected[2][0])
    else:  # samples tie up to rounding: which one gets the gradient is open, how much is not
        total, size = np.sum(expected[2][0]), np.abs(expected[2][0]).sum()
        np.testing.assert_allclose(np.sum(gradients[0]), total, rtol=0, atol=1e-5 * size + 1e-6)


@pytest.mark.slow
@by_kind
@by_schedule
@pytest.mark.parametrize("shape", [(1, 9), (8, 5)], ids=str)
def test_equals_the_float64_reference(shape, schedule, kind):
    boundary, probabilities = kind(2, shape)
    kernel = np.full((1, 1), 1.02, np.float32)
    labels, score, _ = with_gradients(on(schedule))(
        boundary, probabilities, kernel, np.ones(shape[0] * shape[1], np.float32)
    )
    attention = reference.region_attention(
        reference.segment_max(boundary), reference.jensen_shannon(probabilities.reshape(-1, 3))
    )
    attention = reference.regularize(attention, kernel, shape)
    decision = reference.region_decision(attention, THRESHOLD)
    expected = reference.partition(decision)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(score, reference.representative_score(attention, expected), 1e-5)


@pytest.mark.slow
def test_gradients_equal_finite_differences():
    _, probabilities = inputs.smooth_maps(3, (3, 4))
    boundary = np.random.default_rng(3).uniform(0, 0.4, size=(3, 4)).astype(np.float32)
    weights = np.ones(12, np.float32)
    kernel = np.full((1, 1), 0.99, np.float32)
    labels, *_ = with_gradients(on("streaming"))(boundary, probabilities, kernel, weights)

    def score(boundary, probabilities, kernel):
        return on("streaming")(boundary, probabilities, kernel, THRESHOLD)[1]

    def oracle(boundary, probabilities, kernel):
        attention = reference.region_attention(
            reference.segment_max(boundary), reference.jensen_shannon(probabilities.reshape(-1, 3))
        )
        attention = reference.regularize(attention, kernel, (3, 4))
        return reference.representative_score(attention, np.asarray(labels))

    check_gradients(score, boundary, probabilities, kernel, reference=oracle)


@pytest.mark.slow
@by_schedule
def test_probabilities_of_zero_have_finite_gradients(schedule):
    boundary, probabilities = inputs.degenerate_maps(4, (8, 5))
    probabilities[0, 0] = [1e-40, 1e-36, 1.0]
    weights = np.ones(40, np.float32)
    *_, gradients = with_gradients(on(schedule))(
        boundary, probabilities, np.ones((1, 1), np.float32), weights
    )
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    assert (np.asarray(gradients[1])[probabilities == 0] == 0).all()


@pytest.mark.slow
def test_a_side_of_more_than_256_pixels(monkeypatch):
    """The number and value of a largest sample then share one integer, split at another bit."""
    monkeypatch.setattr(pairs, "BUCKET_ROWS", 300)  # one loop, which compiles quickly
    rng = np.random.default_rng(5)
    _, probabilities = inputs.smooth_maps(5, (1, 300))
    boundary = rng.uniform(0, 0.1, size=(1, 300)).astype(np.float32)
    weights = rng.uniform(size=300).astype(np.float32)
    arguments = (boundary, probabilities, np.ones((1, 1), np.float32), weights)
    labels, score, gradients = with_gradients(on("streaming"))(*arguments)
    expected = with_gradients(dense.region_map)(*arguments)
    np.testing.assert_array_equal(labels, expected[0])
    assert_close(score, expected[1])
    for found, wanted in zip(gradients, expected[2], strict=True):
        assert_close(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "schedule",
    [pytest.param(name, marks=pytest.mark.long if name == "kernel" else ()) for name in SCHEDULES],
)
def test_vmap_equals_a_loop(schedule):
    batch = [inputs.smooth_maps(seed, (8, 5)) for seed in range(3)]
    boundary, probabilities = (np.stack(x) for x in zip(*batch, strict=True))
    kernel, weights = np.ones((1, 1), np.float32), np.ones(40, np.float32)
    run = with_gradients(on(schedule))
    arguments = (boundary, probabilities, kernel, weights)
    check_vmap(run, *arguments, in_axes=[0, 0, None, None], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_larger_kernel_equals_the_reference():
    boundary, probabilities = inputs.smooth_maps(6, (4, 5))
    kernel = np.random.default_rng(6).uniform(0, 0.2, size=(3, 3)).astype(np.float32)
    labels, score = ops.region_map(
        jnp.asarray(boundary), jnp.asarray(probabilities), jnp.asarray(kernel), 0.4
    )
    attention = reference.region_attention(
        reference.segment_max(boundary), reference.jensen_shannon(probabilities.reshape(-1, 3))
    )
    attention = reference.regularize(attention, kernel, (4, 5))
    expected = reference.partition(reference.region_decision(attention, 0.4))
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(score, reference.representative_score(attention, expected), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [pytest.param("streaming", marks=pytest.mark.long), "planes"])
def test_double_precision_changes_nothing(schedule):
    boundary, probabilities = inputs.smooth_maps(7, (3, 2))
    arguments = (boundary, probabilities, np.ones((1, 1), np.float32), np.ones(6, np.float32))
    expected = with_gradients(on(schedule))(*arguments)
    with jax.enable_x64(True):
        found = with_gradients(on(schedule))(*arguments)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.slow
def test_auto_is_the_order_of_the_platform():
    arguments = (
        *inputs.smooth_maps(0, (8, 5)),
        np.ones((1, 1), np.float32),
        np.ones(40, np.float32),
    )
    found = with_gradients(streaming.region_map)(*arguments)
    expected = with_gradients(on("streaming"))(*arguments)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule is 'rows'; choose one of"):
        on("rows")(jnp.ones((2, 2)), jnp.ones((2, 2, 1)), jnp.ones((1, 1)), THRESHOLD)


@pytest.mark.slow
def test_offsets_without_a_pair_of_one_region_are_left_out_for_a_batch_too():
    """Cells of 3 x 3 pixels between boundaries: the score of each is that of the cell alone."""
    edge = np.arange(11) % 4 == 3
    boundary = np.where(edge[:, None] | edge[None], 0.9, 0.05).astype(np.float32)
    probabilities = jnp.full((11, 11, 3), 1 / 3)
    batch = jnp.stack([boundary, np.full((11, 11), 0.05, np.float32)])
    labels, score = jax.vmap(
        lambda boundary: on("streaming")(boundary, probabilities, jnp.ones((1, 1)), THRESHOLD)
    )(batch)
    inside = boundary.reshape(-1) < 0.5
    assert len(set(np.asarray(labels[0])[inside].tolist())) == 9
    assert len(set(np.asarray(labels[1]).tolist())) == 1
    np.testing.assert_allclose(np.asarray(score[0])[inside], 0.95, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(score[0])[~inside], 0.1, rtol=1e-6)
    np.testing.assert_allclose(score[1], 0.95, rtol=1e-6)


@pytest.mark.slow
def test_memory_stays_below_one_table():
    size, categories = 33, 3
    arguments = [
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((size, size), (size, size, categories), (1, 1), (size * size,))
    ]
    compiled = with_gradients(on("streaming")).lower(*arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < size**4  # a quarter of a table


@pytest.mark.slow
@pytest.mark.parametrize("region_map", [streaming.region_map, dense.region_map])
@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (((4, 5), (5, 4, 3), (1, 1)), "probabilities .*h must be 4"),
        (((20,), (4, 5, 3), (1, 1)), "boundary must have the axes"),
        (((4, 5), (4, 5, 3), (2, 2)), "kernel must have an odd size"),
        (((4, 5), (4, 5, 3), (1, 3)), "k must be 1"),
    ],
)
def test_rejects_shapes_that_do_not_fit(region_map, shapes, sentence, without_jaxtyping):
    with pytest.raises(ValueError, match=sentence):
        region_map(*(jnp.full(shape, 1 / shape[-1]) for shape in shapes), THRESHOLD)
