"""The segmenter's outputs by config, from shapes alone, and that images are independent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import random_variables
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.models.context.ranet import REGION_PATHS
from ranet_jax.ops import dense

pytestmark = pytest.mark.slow

CLASSES = 5
PAPER = {"fine", "coarse", "boundary"}
RELEASED = {"variant": "released", "backbone": "resnet50", "stem": "deep"}
SMALL_PSP = {"context": "psp", "backbone": "mobilenetv2", "width": 64, "stages": 2}
SCORES = {"fine": CLASSES, "coarse": CLASSES, "boundary": 2, "fine_boundary": 2}
SCORES |= {"position": CLASSES, "channel": CLASSES}


def tiny_model(**settings):
    config = default_config()
    small = {"backbone": "resnet18", "width": 4, "channels": 8, "num_regions": 4, "per_region": 2}
    config.model.update(small | settings)
    return build_model(config, CLASSES)


def output_arrays(model, size, with_regions=False):
    """Shapes and types of the outputs that are not None, by name."""

    def run(images):
        outputs, _ = model.init_with_output(jax.random.key(0), images, with_regions=with_regions)
        named = {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
        named |= named.pop("branches")
        regions = named.pop("regions")
        if regions is not None:
            named["regions"] = {"labels": regions.labels, "score": regions.score}
        return {name: value for name, value in named.items() if value is not None}

    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(run, images)


def output_shapes(model, size, with_regions=False):
    return jax.tree.map(lambda x: x.shape, output_arrays(model, size, with_regions))


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"stages": 2}, PAPER),
        (RELEASED, PAPER | {"fine_boundary"}),
        ({"context": "none", "stages": 2}, {"fine"}),
        ({"context": "none", "variant": "released", "stages": 2}, {"fine"}),
        ({"context": "fcn", "stages": 2}, {"fine"}),
        ({"context": "danet", "stages": 2}, {"fine", "position", "channel"}),
        ({"context": "aspp", "aspp_rates": (2, 4), "stages": 2}, {"fine"}),
        ({"context": "psp", "variant": "mmsegmentation", "stages": 2}, {"fine"}),
        ({"aspp_rates": (2, 4), "stages": 2}, PAPER),
        (SMALL_PSP | {"variant": "segmentation_models"}, {"fine"}),
        (
            {"context": "fcn", "backbone": "mobilenetv2", "width": 64, "auxiliary": True},
            {"fine", "coarse"},
        ),
    ],
)
def test_outputs_of_each_context(settings, names):
    model = tiny_model(**settings)
    shapes = output_shapes(model, (33, 41))
    assert shapes == {name: (2, 5, 6, SCORES[name]) for name in names}
    regions = {"regions": {"labels": (2, 30), "score": (2, 30)}} if "boundary" in names else {}
    assert output_shapes(model, (33, 41), with_regions=True) == shapes | regions


def test_branches_are_classified_in_training_alone():
    model = tiny_model(context="danet", stages=1)
    images = jnp.zeros((1, 17, 17, 3))

    def branches(train):
        def run(images):
            variables = model.init(jax.random.key(0), images)
            rngs = {"dropout": jax.random.key(0)}
            outputs, _ = model.apply(variables, images, train, rngs=rngs, mutable=["batch_stats"])
            return outputs.branches

        return set(jax.eval_shape(run, images))

    assert (branches(train=True), branches(train=False)) == ({"position", "channel"}, set())


def test_auxiliary_scores_have_the_size_of_their_stage():
    shapes = output_shapes(tiny_model(context="none", auxiliary=True, stages=2), (33, 41))
    assert shapes == {"fine": (2, 5, 6, CLASSES), "coarse": (2, 9, 11, CLASSES)}


def test_skipped_features_have_a_classifier_whose_scores_are_added():
    model = tiny_model(context="lraspp", stages=2)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 33, 41, 3)), jnp.float32)
    assert output_shapes(model, (33, 41)) == {"fine": (2, 9, 11, CLASSES)}
    variables = random_variables(model, images)
    apply = jax.jit(lambda variables: model.apply(variables, images).fine)
    whole = apply(variables)
    parts = []
    for name in ("fine_logit", "skipped_logit"):
        zeros = jax.tree.map(jnp.zeros_like, variables["params"][name])
        parts.append(apply(variables | {"params": variables["params"] | {name: zeros}}))
    assert all(np.std(part) > 1e-3 for part in parts)
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-4, atol=1e-4)


def test_an_auxiliary_head_of_few_channels_keeps_one():
    module = tiny_model(context="none", auxiliary=True, stages=2, width=2)
    assert output_shapes(module, (9, 9)).keys() == {"fine", "coarse"}


@pytest.mark.parametrize(
    "settings, sizes",
    [
        ({"stages": 3}, ((33, 41), (17, 21))),  # four stages with the stem
        *(
            pytest.param(settings | {"width": 64}, ((33, 41), (9, 11)), marks=pytest.mark.long)
            for settings in (
                {"backbone": "mobilenetv2", "output_stride": 32},
                {"backbone": "mobilenetv3_large"},
                {"backbone": "hrnetv2_w48", "output_stride": 4},
            )
        ),
    ],
)
def test_decoders_score_at_the_size_of_the_image_and_of_its_pyramid(settings, sizes):
    for context, size in zip(("unet", "fpn"), sizes, strict=True):
        shapes = output_shapes(tiny_model(context=context, **settings | {"channels": 16}), (33, 41))
        assert shapes == {"fine": (2, *size, CLASSES)}


@pytest.mark.long
def test_hrnet_scores_at_stride_4():
    settings = {"backbone": "hrnetv2_w48", "width": 64, "output_stride": 4, "context": "fcn"}
    assert output_shapes(tiny_model(**settings), (64, 96)) == {"fine": (2, 16, 24, CLASSES)}


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (31, 46)])
def test_score_maps_have_the_size_of_the_features(stride, size):
    """An image of H x W gives maps of ceil(H / s) x ceil(W / s)."""
    height, width = (-(-length // stride) for length in size)
    shapes = output_shapes(tiny_model(output_stride=stride), size)
    assert shapes == {name: (2, height, width, SCORES[name]) for name in PAPER}


def test_an_image_among_others_equals_the_image_among_its_copies():
    model = tiny_model(stages=1)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(3, 17, 21, 3)), jnp.float32)
    variables = random_variables(model, images)
    apply = jax.jit(lambda images: model.apply(variables, images, with_regions=True))
    together, alone = apply(images), apply(jnp.stack([images[1]] * 3))
    assert len(set(np.asarray(alone.regions.labels[0]).tolist())) > 1
    np.testing.assert_array_equal(together.regions.labels[1], alone.regions.labels[0])
    for name in PAPER:
        np.testing.assert_allclose(
            getattr(together, name)[1], getattr(alone, name)[0], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    "settings, path",
    [({}, "auto"), ({"region_path": "planes"}, "planes"), ({"region_path": "dense"}, "dense")],
)
def test_regions_are_computed_by_the_path_of_the_config(settings, path, monkeypatch):
    taken = []

    def noted(name):
        return lambda *arguments: taken.append(name) or dense.region_map(*arguments)

    for name in REGION_PATHS:
        monkeypatch.setitem(REGION_PATHS, name, noted(name))
    output_shapes(tiny_model(stages=1, **settings), (9, 9))
    assert set(taken) == {path}


def test_bfloat16_gives_float32_scores():
    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm promotes
        outputs = output_arrays(tiny_model(dtype="bfloat16", stages=2), (17, 17))
    assert {name: x.dtype for name, x in outputs.items()} == dict.fromkeys(PAPER, jnp.float32)


@pytest.mark.parametrize(
    "field, value",
    [
        ("backbone", "vgg16"),
        ("context", "transformer"),
        ("variant", "draft"),
        ("region_path", "sparse"),
        ("region_scores", "depth"),
        ("dtype", "float16"),
        ("output_stride", 12),
        ("stages", 5),
        ("stem", "conv5"),
    ],
)
def test_a_value_that_is_no_choice_is_named(field, value):
    with pytest.raises(UserError, match=f"{field} is {value!r}; choose one of"):
        tiny_model(**{field: value})


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"context": "aspp"}, "needs aspp_rates"),
        ({"context": "deeplabv3plus"}, '"deeplabv3plus" needs aspp_rates'),
        ({"variant": "mmsegmentation"}, "'ranet' has no variant 'mmsegmentation'; choose one of"),
        ({"context": "fcn", "aspp_rates": (6,)}, "'fcn' has no ASPP"),
        ({"auxiliary": True}, "has its own coarse scores"),
        ({"intra_region": False, "inter_region": False}, "are both False"),
        (RELEASED | {"inter_region": False}, "has no optional parts"),
        ({"context": "fcn", "auxiliary": True, "stages": 1}, "has no earlier stage"),
        ({"read_head": True}, "resnet18 has no such setting"),
        ({"backbone": "mobilenetv2", "width": 64, "stages": 3, "read_head": True}, "stages = 4"),
        ({"backbone": "mobilenetv3_large", "width": 64, "dilate_first_block": True}, "leave it"),
        ({"context": "unet"}, "needs at least 16 channels"),
        ({"backbone": "mobilenetv3_large", "width": 64, "output_stride": 4}, "output_stride is 4"),
        ({"backbone": "mobilenetv2"}, "mobilenetv2 has no such setting"),
        ({"backbone": "resnet50d", "stem": "deep"}, "resnet50d has a fixed stem; leave"),
        ({"backbone": "hrnetv2_w48", "width": 64}, "but HRNetV2 supports only 4"),
        ({"backbone": "mobilenetv2", "width": 64, "output_stride": 4}, "output_stride is 4"),
    ],
)
def test_settings_that_do_not_go_together(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        tiny_model(**settings)


@pytest.mark.parametrize(
    "settings, earlier",
    [
        ({}, "layer3"),
        ({"stages": 1}, ""),
        ({"backbone": "mobilenetv2", "stages": 4, "width": 64}, "stage5"),
        ({"backbone": "mobilenetv2", "stages": 2, "width": 64}, "stage2"),
        ({"backbone": "mobilenetv2", "stages": 1, "width": 64}, ""),
        ({"backbone": "mobilenetv3_large", "stages": 4, "width": 64}, "stage3_first"),
        ({"backbone": "hrnetv2_w48", "stages": 4, "width": 64, "output_stride": 4}, ""),
    ],
)
def test_two_stages_are_read_where_there_are_two(settings, earlier):
    assert tiny_model(context="asymmetric", **settings).context.earlier == earlier
    ocr = tiny_model(context="ocr", **settings).context
    assert ocr.score_stage == (earlier or ocr.stage)


@pytest.mark.parametrize(
    "field, value",
    [("stages", 3), ("stem", "conv7"), ("output_stride", 16), ("backbone", "resnet34")],
)
def test_the_released_variant_is_one_network(field, value):
    with pytest.raises(UserError, match=f"is made for .*{field}"):
        tiny_model(**RELEASED | {field: value})
