import jax
import numpy as np
import pytest

from helpers.explored import explored_image, explored_model
from ranet_jax import ops
from ranet_jax.errors import UserError
from ranet_jax.inference.explorer import construction
from ranet_jax.inference.explorer.construction import Constructions, RegionSettings
from ranet_jax.inference.explorer.scene import VIEW_SIDE, Observer, view_shape
from ranet_jax.ops import dense, reference

pytestmark = pytest.mark.slow
MOST = RegionSettings(1.0, 12, 6)


@pytest.fixture(scope="module")
def model():
    return explored_model()


@pytest.fixture(scope="module")
def scene(model):
    return Observer(model).observe(explored_image())


def test_a_scene_is_what_the_model_predicts(model, scene):
    prediction = model.predict(explored_image())
    np.testing.assert_array_equal(scene.fine, prediction.labels)
    np.testing.assert_array_equal(scene.coarse, prediction.coarse)
    np.testing.assert_allclose(scene.boundary / 255, prediction.boundary, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(scene.regions.labels, prediction.regions.labels)
    np.testing.assert_allclose(scene.fine_scores.sum(axis=-1), 1, atol=1e-5)
    assert scene.grid == prediction.regions.labels.shape == (7, 9)
    np.testing.assert_array_equal(scene.image, explored_image())


def test_own_settings_give_the_networks_regions(model, scene):
    own = RegionSettings(0.8, model.config.model.num_regions, model.config.model.per_region)
    found = construction.find_regions(scene, own, own)
    assert 1 < len(np.unique(found.labels)) < found.labels.size  # otherwise there is nothing to see
    np.testing.assert_array_equal(found.labels, scene.regions.labels)
    np.testing.assert_allclose(found.score, scene.regions.score, atol=1e-6)
    for mine, theirs in zip(found.representatives, scene.regions.representatives, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("threshold", "num_regions", "per_region"),
    [(0.3, 3, 2), pytest.param(0.95, 12, 6, marks=pytest.mark.long)],
)
def test_other_settings_give_the_regions_of_the_tables(scene, threshold, num_regions, per_region):
    settings = RegionSettings(threshold, num_regions, per_region)
    found = construction.find_regions(scene, settings, MOST)
    inputs = scene.inputs
    labels, score = jax.jit(dense.region_map)(
        inputs.boundary, inputs.probabilities, inputs.kernel, threshold
    )
    np.testing.assert_array_equal(found.labels.reshape(-1), labels)
    chosen = ops.select_representatives(score, labels, num_regions, per_region)
    kept = [
        np.asarray(found.representatives.roots)[:num_regions],
        np.asarray(found.representatives.indices)[:num_regions, :per_region],
        np.asarray(found.representatives.valid)[:num_regions, :per_region],
    ]
    for mine, theirs in zip(kept, chosen, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.asarray(found.representatives.valid)[num_regions:].any()
    assert not np.asarray(found.representatives.valid)[:, per_region:].any()
    assert (np.asarray(found.representatives.roots)[num_regions:] == -1).all()


def test_the_exchange_is_that_of_the_equations(scene):
    regions = construction.find_regions(scene, RegionSettings(0.8, 4, 3), MOST)
    found = construction.exchange(scene, regions)
    features = np.asarray(scene.inputs.features)
    local = reference.collect(features, found.score, found.labels, regions.representatives)
    np.testing.assert_allclose(found.local, local, atol=1e-5)
    context = reference.interact(local, found.score, regions.representatives)
    np.testing.assert_allclose(found.context, context, atol=1e-5)


def test_a_construction_is_computed_once(scene, monkeypatch):
    kept = Constructions(MOST)
    settings = RegionSettings(0.8, 4, 3)
    first = kept.construction(scene, settings)
    monkeypatch.setattr(construction, "find_regions", None)
    assert kept.construction(scene, settings) is first
    assert kept.regions(scene, settings) is first.regions


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((1.5, 3, 2), "threshold is 1.5"),
        ((float("nan"), 3, 2), "threshold is nan"),
        ((0.8, 0, 2), "number of regions is 0; choose one from 1 to 12"),
        ((0.8, 3, 7), "number of representatives is 7; choose one from 1 to 6"),
    ],
)
def test_settings_out_of_range_are_refused(scene, settings, said):
    with pytest.raises(UserError, match=said):
        Constructions(MOST).regions(scene, RegionSettings(*settings))


def test_a_network_without_regions_has_a_scene_and_no_construction():
    scene = Observer(explored_model("none")).observe(explored_image())
    assert scene.inputs is None and scene.regions is None and scene.coarse is None
    with pytest.raises(UserError, match="does not construct regions by the paper"):
        Constructions(MOST).regions(scene, RegionSettings(0.8, 3, 2))


def test_labels_of_another_size_are_refused(model):
    with pytest.raises(UserError, match="5 x 4 pixels and the image has 72 x 56"):
        Observer(model).observe(explored_image(), np.zeros((4, 5), np.uint8))


def test_large_images_are_shown_at_a_reduced_size():
    assert view_shape((300, 200)) == (300, 200)
    assert view_shape((2 * VIEW_SIDE, VIEW_SIDE)) == (VIEW_SIDE, VIEW_SIDE // 2)
    assert view_shape((1, 10 * VIEW_SIDE)) == (1, VIEW_SIDE)
