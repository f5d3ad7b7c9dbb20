"""The explorer's answers over HTTP, compared with `ops` and the float64 reference."""

import dataclasses
import io
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from helpers.explored import DATASET, SIZE, explored_image, explored_model, explorer_of
from helpers.explorer_server import Server, encoded
from ranet_jax.inference.explorer import library
from ranet_jax.inference.explorer.construction import RegionSettings, find_regions
from ranet_jax.inference.explorer.facts import class_facts, region_facts
from ranet_jax.inference.explorer.scene import Observer
from ranet_jax.ops import reference

pytestmark = pytest.mark.slow
PIXEL, OTHER = 34, 58  # of the 7 x 9 grid; the first is in the largest region
THRESHOLD, REGIONS, PLACES = 0.8, 4, 2


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "tiles.png"
    path.write_bytes(encoded(explored_image(), format="PNG"))
    return path


@pytest.fixture(scope="module")
def model():
    return explored_model()


@pytest.fixture(scope="module")
def explorer(model, image_file):
    return explorer_of(model, [image_file])


@pytest.fixture(scope="module")
def server(explorer):
    server = Server(explorer)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pixel(server):
    return server.json("pixel", image="tiles.png", pixel=PIXEL, other=OTHER)


@pytest.fixture(scope="module")
def scene(explorer):
    return explorer.library.scene("tiles.png")


@pytest.fixture(scope="module")
def inputs(scene):
    """B, C, W^g and A of the image, as the network gives them to the equations."""
    return scene.inputs


@pytest.fixture(scope="module")
def tables(inputs):
    """Eqs. 1-8 of the image by the float64 reference."""
    crossing = reference.segment_max(inputs.boundary)
    divergence = reference.jensen_shannon(np.asarray(inputs.probabilities).reshape(-1, 3))
    attention = reference.region_attention(crossing, divergence)
    filtered = reference.regularize(attention, inputs.kernel, inputs.boundary.shape)
    labels = reference.partition(reference.region_decision(filtered, THRESHOLD))
    score = reference.representative_score(filtered, labels)
    chosen = reference.select_representatives(score, labels, REGIONS, PLACES)
    return {
        "D": crossing,
        "E": divergence,
        "F": attention,
        "linking": (filtered + filtered.T) / 2,
        "labels": labels,
        "J": score,
        "chosen": chosen,
    }


def test_the_network_is_described(server):
    network = server.json("network")
    assert network["title"] == "a model"
    assert [each["name"] for each in network["classes"]] == list(DATASET.class_names)
    assert network["images"][0] == "tiles.png"
    assert network["settings"] == {"threshold": 0.8, "regions": 4, "representatives": 2}
    assert len(network["colormap"]) == 256


def test_layers_are_those_of_the_scene(server, scene):
    said = server.json("scene", image="tiles.png")
    assert said["size"] == said["view"] == list(SIZE) and said["align_corners"]
    assert said["layers"] == ["fine", "coarse", "boundary"] and said["has_regions"]
    for name in said["layers"]:
        layer = server.bytes("api/layer", image="tiles.png", name=name)
        np.testing.assert_array_equal(
            np.frombuffer(layer, np.uint8).reshape(SIZE), getattr(scene, name)
        )
    picture = Image.open(io.BytesIO(server.bytes("api/picture", image="tiles.png")))
    np.testing.assert_array_equal(np.asarray(picture), explored_image())


def test_the_maps_of_a_pixel_are_the_references(pixel, tables):
    assert (pixel["row"], pixel["column"]) == divmod(PIXEL, 9)
    for name in ("D", "E", "F", "linking"):
        np.testing.assert_allclose(pixel[name], tables[name][PIXEL], atol=2e-6, err_msg=name)
    assert pixel["linked"] == (tables["linking"][PIXEL] > THRESHOLD).sum()
    assert pixel["J"] == pytest.approx(tables["J"][PIXEL], abs=1e-6)
    segment = pixel["segment"]
    largest = segment["scores"][segment["largest"]]
    assert largest == pytest.approx(tables["D"][PIXEL, OTHER], abs=1e-6)
    assert segment["positions"][0] == list(divmod(PIXEL, 9))
    assert segment["positions"][-1] == list(divmod(OTHER, 9))


def test_the_region_of_a_pixel_is_the_references(server, pixel, tables):
    root = tables["labels"][PIXEL]
    size = (tables["labels"] == root).sum()
    assert size >= 8  # otherwise there is nothing to see
    assert pixel["region"] == {"root": root, "size": size, "share": size / 63, "slot": 0}
    regions = server.json("regions", image="tiles.png")
    np.testing.assert_array_equal(regions["labels"], tables["labels"])
    assert [each["root"] for each in regions["regions"]] == tables["chosen"][0].tolist()
    assert regions["regions"][0]["color"] is not None
    assert regions["caption"].startswith("2 regions of 8 or more feature-map pixels, largest 63 %")


def test_the_weights_of_a_pixel_are_the_references(pixel, inputs, tables):
    features = np.asarray(inputs.features, np.float64)
    labels, score, chosen = tables["labels"], tables["J"], tables["chosen"]
    roots, indices, valid = chosen
    assert valid[0].all() and not valid.all()  # a region of one pixel fills one place of two
    local = reference.collect(features, score, labels, chosen)
    context = reference.interact(local, score, chosen)

    def softmax(logits):
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    # Eq. 8 for the pixel's region, which has the first slot.
    expected = softmax((score[indices[0]][:, None] * context[0]) @ features[PIXEL])
    listed = pixel["representatives"]
    assert [each["pixel"] for each in listed] == indices[0].tolist()
    np.testing.assert_allclose([each["weight"] for each in listed], expected, atol=1e-5)

    # Eq. 6 for the representative of the largest weight.
    chosen_one = pixel["representative"]
    place = int(expected.argmax())
    assert (chosen_one["slot"], chosen_one["place"]) == (0, place)
    others = [i for i in np.flatnonzero(labels == roots[0]) if i not in indices[0]]
    gathered = np.zeros(63)
    gathered[others] = softmax(
        (score[others, None] * features[others]) @ features[indices[0, place]]
    )
    np.testing.assert_allclose(chosen_one["collected"], gathered, atol=1e-5)

    # Eq. 7: every other region that has a slot, by the length of what it adds.
    lengths = {}
    for slot in range(1, REGIONS):
        pixels = indices[slot][valid[slot]]
        scored = score[pixels][:, None] * local[slot][valid[slot]]
        weights = softmax(scored @ local[0, place])
        lengths[slot] = np.linalg.norm(weights @ scored)
        source = next(each for each in chosen_one["sources"] if each["slot"] == slot)
        assert source["root"] == roots[slot]
        np.testing.assert_allclose(
            [each["weight"] for each in source["representatives"]], weights, atol=1e-5
        )
    shares = [each["share"] for each in chosen_one["sources"]]
    assert shares == sorted(shares, reverse=True)
    expected_shares = np.array([lengths[each["slot"]] for each in chosen_one["sources"]])
    np.testing.assert_allclose(shares, expected_shares / expected_shares.sum(), atol=1e-5)


def test_another_representative_and_other_settings(server, tables):
    query = {"image": "tiles.png", "pixel": PIXEL, "threshold": 0.6, "regions": 2}
    pixel = server.json("pixel", **query, representatives=3, place=1)
    labels = reference.partition(tables["linking"] > 0.6)
    assert pixel["region"]["size"] == (labels == labels[PIXEL]).sum()
    assert len(pixel["representatives"]) == 3
    assert pixel["representative"]["place"] == 1
    assert len(pixel["representative"]["sources"]) == 1


def test_an_upload_is_an_image_as_any_other(server):
    grey = explored_image(1)[..., 0]
    key = server.json("images", encoded(grey, format="PNG"), name="grey.png")["image"]
    assert key.startswith("grey.png (") and key in server.json("network")["images"]
    assert server.json("scene", image=key)["size"] == list(SIZE)
    again = server.json("images", encoded(grey, format="PNG"), name="grey.png")["image"]
    assert again == key


@pytest.mark.parametrize(
    ("path", "parameters", "said"),
    [
        ("scene", {"image": "other.png"}, "There is no image 'other.png' here"),
        ("scene", {}, "There is no image '' here"),
        ("pixel", {"image": "tiles.png"}, "pixel is ''; give a whole number"),
        (
            "pixel",
            {"image": "tiles.png", "pixel": 63},
            "numbered from 0 to 62; there is no pixel 63",
        ),
        ("pixel", {"image": "tiles.png", "pixel": -1}, "there is no pixel -1"),
        ("pixel", {"image": "tiles.png", "pixel": 1, "other": 99}, "there is no pixel 99"),
        ("regions", {"image": "tiles.png", "threshold": "x"}, "threshold is 'x'; give a number"),
        ("regions", {"image": "tiles.png", "threshold": "nan"}, "choose a number from 0 to 1"),
        ("regions", {"image": "tiles.png", "regions": 10**6}, "choose one from 1 to 64"),
        ("layer", {"image": "tiles.png", "name": "truth"}, "has no layer 'truth'"),
        ("layer", {"image": "tiles.png", "name": "inputs"}, "has no layer 'inputs'"),
    ],
)
def test_requests_that_make_no_sense_are_refused_in_a_sentence(server, path, parameters, said):
    code, sentence = server.refusal(path, **parameters)
    assert code == 400
    assert said in sentence


def test_what_is_not_an_image_or_too_large_is_refused(server, monkeypatch):
    code, sentence = server.refusal("images", b"no image", name="notes.txt")
    assert (code, sentence) == (
        400,
        "notes.txt cannot be read as an image; restore it or leave it out.",
    )
    whole = encoded(explored_image(), format="PNG")
    assert "cut off or damaged" in server.refusal("images", whole[:-20], name="a.png")[1]
    monkeypatch.setattr(library, "MAX_PIXELS", 100)
    assert (
        "a.png has 4,032 pixels; images of up to 100"
        in server.refusal("images", whole, name="a.png")[1]
    )


def test_an_upload_of_too_many_bytes_is_refused(server, monkeypatch):
    monkeypatch.setattr(library, "MAX_BYTES", 10)
    assert "has more than 0 MiB" in server.refusal("images", b"12345678901", name="a")[1]


def test_the_page_loads_nothing_from_elsewhere(server):
    with urllib.request.urlopen(server.address) as response:
        page = response.read().decode()
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert "//" not in page.replace("<!DOCTYPE html>", "")
    for name in ("main.js", "paint.js", "panel.js", "api.js", "state.js", "explorer.css"):
        text = server.bytes(f"page/{name}").decode()
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text


def test_other_host_names_are_not_answered(server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.bytes("", headers={"Host": "elsewhere.example"})
    with refused.value as response:
        assert response.code == 400


def test_a_network_without_regions_says_of_a_pixel_what_it_is(image_file):
    server = Server(explorer_of(explored_model("none"), [image_file]))
    try:
        scene = server.json("scene", image="tiles.png")
        assert not scene["has_regions"] and scene["layers"] == ["fine"]
        pixel = server.json("pixel", image="tiles.png", pixel=5)
        assert pixel.keys() == {"pixel", "row", "column", "fine", "image_position"}
        refused = server.refusal("regions", image="tiles.png")[1]
        assert "does not construct regions by the paper" in refused
    finally:
        server.stop()


def test_a_grid_that_fills_the_image_has_its_pixels_in_the_middle_of_their_cells():
    model = explored_model(align_corners=False)
    scene = Observer(model).observe(explored_image())
    np.testing.assert_array_equal(scene.fine, model.predict(explored_image()).labels)
    assert not scene.align_corners and not scene.regions.align_corners
    facts = class_facts(scene, 9 + 2, DATASET)  # row 1, column 2 of cells of 8 x 8 pixels
    assert facts["image_position"] == {"x": 2 * 8 + 3.5, "y": 8 + 3.5}
    settings = RegionSettings(THRESHOLD, REGIONS, PLACES)
    regions = find_regions(scene, settings, settings)
    assert not regions.align_corners
    truth = np.full(SIZE, 255, np.uint8)
    truth[4::8, 4::8] = regions.labels % 3  # each region has one category
    truth[::8, ::8] = (regions.labels + np.arange(9)) % 3
    known = dataclasses.replace(scene, truth=truth)
    assert region_facts(known, regions, DATASET)["caption"].endswith("purity 1.00")


def test_files_of_one_name_have_their_paths_for_keys(model, tmp_path):
    files = [tmp_path / name for name in ("a/one.png", "b/one.png", "b/two.png")]
    keys = explorer_of(model, files).library.keys
    assert keys == [str(files[0]), str(files[1]), "two.png"]


def test_uploads_and_scenes_that_are_kept_are_bounded(model, monkeypatch):
    monkeypatch.setattr(library, "KEPT_UPLOADS", 2)
    shelf = explorer_of(model).library
    keys = [shelf.add(f"{i}", encoded(explored_image(i), format="PNG")) for i in range(3)]
    assert shelf.keys == keys[1:]
