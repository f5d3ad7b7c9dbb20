"""The paper's two blocks against Eqs. 1-8 as NumPy loops, on the modules' own parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import convolve, normalise, random_variables, softmax
from ranet_jax.models.context.ranet import (
    DEVIATION_UNIT,
    RANetContext,
    RegionConstructionBlock,
    RegionInteractionBlock,
    group_kernel,
)
from ranet_jax.ops import reference

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, CHANNELS, CLASSES = 3, 5, 6, 3
SETTINGS = {"num_regions": 6, "per_region": 2, "threshold": 0.8}


def block(kernel_size=1, **settings):
    return RegionConstructionBlock(CLASSES, kernel_size=kernel_size, **(SETTINGS | settings))


def visual_features(seed=0, batch=2, channels=CHANNELS):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(batch, HEIGHT, WIDTH, channels)), jnp.float32)


def with_some_regions(heads):
    """Heads with few boundaries, and categories sure enough to join some pixels and not others."""
    boundary = heads["boundary_logit"] | {"bias": jnp.array([2.0, -2.0])}
    kernel = 3.0 * heads["semantic_logit"]["kernel"]
    return heads | {
        "boundary_logit": boundary,
        "semantic_logit": heads["semantic_logit"] | {"kernel": kernel},
    }


def random_heads(kernel_size=1):
    return with_some_regions(random_variables(block(kernel_size), visual_features())["params"])


def scores(pixels, head):
    kernel, bias = (np.asarray(head[name], np.float64) for name in ("kernel", "bias"))
    return pixels @ kernel[0, 0] + bias


def expected_construction(visual, heads, region_scores="both"):
    """Coarse scores, boundary scores, labels, J and representatives of [h, w, m] features."""
    pixels = np.asarray(visual, np.float64).reshape(HEIGHT * WIDTH, -1)
    coarse = scores(pixels, heads["semantic_logit"])
    boundary = scores(pixels, heads["boundary_logit"])
    deviation = np.asarray(heads["group_kernel_deviation"], np.float64)
    kernel = DEVIATION_UNIT * deviation
    kernel[len(kernel) // 2, len(kernel) // 2] += 1

    crossing = reference.segment_max(softmax(boundary)[:, 1].reshape(HEIGHT, WIDTH))
    divergence = reference.jensen_shannon(softmax(coarse))
    attention = reference.region_attention(
        np.zeros_like(crossing) if region_scores == "semantic" else crossing,
        np.zeros_like(divergence) if region_scores == "boundary" else divergence,
    )
    attention = reference.regularize(attention, kernel, (HEIGHT, WIDTH))
    labels = reference.partition(reference.region_decision(attention, SETTINGS["threshold"]))
    score = reference.representative_score(attention, labels)
    chosen = reference.select_representatives(
        score, labels, SETTINGS["num_regions"], SETTINGS["per_region"]
    )
    return coarse, boundary, labels, score, chosen


def expected_interaction(visual, score, labels, chosen):
    pixels = np.asarray(visual, np.float64).reshape(HEIGHT * WIDTH, -1)
    local = reference.collect(pixels, score, labels, chosen)
    context = reference.interact(local, score, chosen)
    return reference.distribute(pixels, score, labels, chosen, context)


def assert_regions(regions, index, labels, score, chosen):
    assert 1 < len(set(labels.tolist())) < HEIGHT * WIDTH, "the case must have regions"
    np.testing.assert_array_equal(regions.labels[index], labels)
    np.testing.assert_allclose(regions.score[index], score, rtol=1e-5)
    for found, expected in zip(regions.representatives, chosen, strict=True):
        np.testing.assert_array_equal(found[index], expected)


def both_blocks(heads, visual):
    kernel_size = len(heads["group_kernel_deviation"])
    coarse, boundary, regions = block(kernel_size).apply({"params": heads}, visual)
    return coarse, boundary, regions, RegionInteractionBlock().apply({}, visual, regions)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_blocks_equal_the_reference(kernel_size):
    visual, heads = visual_features(), random_heads(kernel_size)
    coarse, boundary, regions, outputs = jax.jit(both_blocks)(heads, visual)
    for i in range(2):
        wanted_coarse, wanted_boundary, *found = expected_construction(visual[i], heads)
        np.testing.assert_allclose(coarse[i].reshape(-1, CLASSES), wanted_coarse, atol=1e-4)
        np.testing.assert_allclose(boundary[i].reshape(-1, 2), wanted_boundary, atol=1e-4)
        assert_regions(regions, i, *found)
        labels, score, chosen = found
        expected = expected_interaction(visual[i], score, labels, chosen)
        np.testing.assert_allclose(outputs[i].reshape(expected.shape), expected, atol=1e-4)


@pytest.mark.parametrize("region_scores", ["boundary", "semantic"])
def test_one_kind_of_score_alone_makes_other_regions(region_scores):
    """As if all pixels were of one category, or as if no boundary lay between them."""
    visual, heads = visual_features(), random_heads()
    module = block(region_scores=region_scores)
    _, _, regions = jax.jit(module.apply)({"params": heads}, visual)
    for i in range(2):
        _, _, labels, score, chosen = expected_construction(visual[i], heads, region_scores)
        np.testing.assert_array_equal(regions.labels[i], labels)
        np.testing.assert_allclose(regions.score[i], score, rtol=1e-5)
        np.testing.assert_array_equal(regions.representatives.indices[i], chosen[1])
        assert not np.allclose(score, expected_construction(visual[i], heads)[3])


def test_interaction_without_one_of_its_parts():
    visual, heads = visual_features(), random_heads()
    _, _, regions = jax.jit(block().apply)({"params": heads}, visual)
    outputs = {
        parts: jax.jit(RegionInteractionBlock(*parts).apply)({}, visual, regions)
        for parts in ((True, False), (False, True))
    }
    for i in range(2):
        _, _, labels, score, chosen = expected_construction(visual[i], heads)
        pixels = np.asarray(visual[i], np.float64).reshape(HEIGHT * WIDTH, -1)
        _, indices, valid = chosen
        assert valid.any()
        assert not valid.all()
        within = score[indices][..., None] * reference.collect(pixels, score, labels, chosen)
        expected = reference.distribute(pixels, score, labels, chosen, within)
        found = outputs[True, False][i].reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-4)

        expected = score[:, None] * pixels
        between = reference.interact(expected[indices] * valid[..., None], score, chosen)
        for place in zip(*np.nonzero(valid), strict=True):
            expected[indices[place]] = between[place]
        found = outputs[False, True][i].reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def assert_leaves_close(found, expected):
    """Check that each leaf is within 1e-5 of the expected leaf's largest value."""
    wanted, structure = jax.tree.flatten_with_path(expected)
    assert jax.tree.structure(found) == structure
    for (path, leaf), other in zip(wanted, jax.tree.leaves(found), strict=True):
        assert other.dtype == leaf.dtype
        tolerance, name = 1e-5 * np.abs(leaf).max(), jax.tree_util.keystr(path)
        np.testing.assert_allclose(other, leaf, rtol=0, atol=tolerance, err_msg=name)


def test_both_region_paths_give_the_same_outputs_and_gradients():
    """Gradients by all parameters and by the features, hence by what the features come from."""
    visual, heads = visual_features(seed=7), random_heads()
    rng = np.random.default_rng(8)
    weights = [
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, HEIGHT, WIDTH, CLASSES), (2, HEIGHT, WIDTH, 2), (2, HEIGHT * WIDTH))
    ]

    def loss(heads, visual, path):
        outputs = block(region_path=path).apply({"params": heads}, visual)
        coarse, boundary, regions = outputs
        weighed = zip(weights, (coarse, boundary, regions.score), strict=True)
        return sum(jnp.sum(weight * values) for weight, values in weighed), outputs

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True), static_argnames="path")
    found, expected = (gradients(heads, visual, path=path) for path in ("streaming", "dense"))
    slopes, (_, _, regions) = expected
    for labels in regions.labels:
        assert 2 < len(set(labels.tolist())) < HEIGHT * WIDTH, "the case must have regions"
    for slope in jax.tree.leaves(slopes):
        assert np.abs(slope).max() > 1e-3
    assert_leaves_close(found, expected)


def context(dtype=jnp.float32):
    return RANetContext(CLASSES, "layer3", CHANNELS, dtype=dtype, **SETTINGS)


def stages():
    return {"layer2": jnp.zeros((2, 1, 1, 1)), "layer3": visual_features(seed=3, channels=4)}


@functools.cache
def context_variables():
    variables = random_variables(context(), stages(), seed=1)
    heads = with_some_regions(variables["params"]["rcb"])
    return variables | {"params": variables["params"] | {"rcb": heads}}


@functools.cache
def context_output():
    return jax.jit(context().apply)(context_variables(), stages())


def test_context_equals_the_reference():
    variables, inputs = context_variables(), stages()
    params, stats = variables["params"], variables["batch_stats"]

    def conv_bn(x, name):
        kernel = params[name]["conv"]["kernel"]
        x = convolve(x, kernel, 1, 1, (kernel.shape[0] - 1) // 2)
        return normalise(x, params[name]["bn"], stats[name]["bn"])

    output = context_output()
    for i in range(2):
        visual = np.maximum(conv_bn(inputs["layer3"][i], "reduce"), 0)
        coarse, boundary, labels, score, chosen = expected_construction(visual, params["rcb"])
        assert_regions(output.regions, i, labels, score, chosen)
        scaled = visual / np.sqrt(CHANNELS)
        gathered = expected_interaction(scaled, score, labels, chosen).reshape(visual.shape)
        projected = 4 * conv_bn(gathered, "project")
        fused = np.maximum(conv_bn(np.concatenate([visual, projected], axis=-1), "fuse"), 0)
        np.testing.assert_allclose(output.coarse[i].reshape(coarse.shape), coarse, atol=1e-4)
        np.testing.assert_allclose(output.boundary[i].reshape(boundary.shape), boundary, atol=1e-4)
        np.testing.assert_allclose(output.features[i], fused, rtol=1e-4, atol=1e-4)


def test_training_starts_from_the_network_without_context():
    """The features stay the same whatever the regions are."""
    inputs = stages()
    variables = jax.jit(context().init)(jax.random.key(0), inputs)
    heads = variables["params"]["rcb"]
    others = variables | {"params": variables["params"] | {"rcb": with_some_regions(heads)}}
    outputs = [jax.jit(context().apply)(x, inputs) for x in (variables, others)]
    assert not np.array_equal(outputs[0].regions.labels, outputs[1].regions.labels)
    np.testing.assert_array_equal(outputs[0].features, outputs[1].features)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_kernel_starts_as_the_identity(kernel_size):
    variables = block(kernel_size).lazy_init(
        jax.random.key(0), jax.ShapeDtypeStruct((1, HEIGHT, WIDTH, CHANNELS), jnp.float32)
    )
    kernel = group_kernel(variables["params"]["group_kernel_deviation"])
    expected = np.zeros((kernel_size, kernel_size))
    expected[kernel_size // 2, kernel_size // 2] = 1
    np.testing.assert_array_equal(kernel, expected)


def test_heads_and_kernel_learn_from_the_context_alone():
    """Gradients of the contextual features O, through J, against central differences."""
    visual, heads = visual_features(batch=1), random_heads(kernel_size=3)
    weights = np.random.default_rng(5).normal(size=visual.shape)

    def loss(heads, stop):
        _, _, regions = block(3).apply({"params": heads}, visual)
        regions = jax.lax.stop_gradient(regions) if stop else regions
        outputs = RegionInteractionBlock().apply({}, visual, regions)
        return jnp.sum(outputs * jnp.asarray(weights, jnp.float32))

    @jax.jit
    def gradients(heads):
        return jax.grad(loss)(heads, False), jax.grad(loss)(heads, True)

    found, through_features = gradients(heads)
    for leaf in jax.tree.leaves(through_features):
        np.testing.assert_array_equal(leaf, 0)

    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), heads)

    def oracle():
        _, _, labels, score, chosen = expected_construction(visual[0], exact)
        outputs = expected_interaction(visual[0], score, labels, chosen)
        return np.sum(outputs.reshape(visual.shape) * weights)

    for path in (
        ("group_kernel_deviation",),
        ("boundary_logit", "bias"),
        ("semantic_logit", "bias"),
    ):
        values, gradient = exact, found
        for key in path:
            values, gradient = values[key], gradient[key]
        assert np.abs(gradient).max() > 1e-3
        for place in np.ndindex(values.shape):
            kept, ends = values[place], []
            for step in (1e-5, -1e-5):
                values[place] = kept + step
                ends.append(oracle())
            values[place] = kept
            slope = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(gradient[place], slope, rtol=2e-3, atol=1e-4)


def test_bfloat16_computes_scores_in_float32():
    variables, inputs = context_variables(), stages()
    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm promotes
        initial = jax.eval_shape(context(jnp.bfloat16).init, jax.random.key(0), inputs)
        output = jax.jit(context(jnp.bfloat16).apply)(variables, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    assert output.features.dtype == jnp.bfloat16
    for array in (output.coarse, output.boundary, output.regions.score):
        assert array.dtype == jnp.float32
        assert np.isfinite(array).all()
    expected = context_output().coarse
    np.testing.assert_allclose(output.coarse, expected, atol=0.05 * np.abs(expected).max())


def test_slots_are_filled_by_size_and_the_rest_is_empty():
    visual, heads = visual_features(), random_heads()
    pixels = HEIGHT * WIDTH
    construct = jax.jit(block(num_regions=pixels, region_path="dense").apply)
    _, _, regions = construct({"params": heads}, visual)
    assert regions.labels.shape == regions.score.shape == (2, pixels)
    assert regions.representatives.indices.shape == (2, pixels, SETTINGS["per_region"])
    for i in range(2):
        labels = np.asarray(regions.labels[i])
        roots, indices, valid = (np.asarray(x[i]) for x in regions.representatives)
        count = len(set(labels.tolist()))
        sizes = [int((labels == root).sum()) for root in roots[:count]]
        assert set(roots[:count]) == set(labels.tolist())
        assert sizes == sorted(sizes, reverse=True)
        assert valid[:count].sum(axis=1).tolist() == [min(size, 2) for size in sizes]
        for q, k in np.argwhere(valid):
            assert labels[indices[q, k]] == roots[q]
        assert (roots[count:] == -1).all()
        assert not valid[count:].any()
