"""Model cards: what the hub reads from them, and that their numbers are those of the run."""

import json
import re
import shutil

import huggingface_hub
import numpy as np
import pytest
import yaml
from PIL import Image

import ranet_jax
from helpers.scored_run import DATASET, STEP, report
from ranet_jax.errors import UserError
from ranet_jax.inference.model import Model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def text(published):
    return (published / "README.md").read_text()


def results(card):
    """The values of a card by split, metric and the beginning of the metric's name."""
    return {
        (
            each.dataset_split,
            each.metric_type,
            each.metric_name.partition(",")[0],
        ): each.metric_value
        for each in card.data.eval_results
    }


def test_the_hub_reads_the_metadata(published, text):
    card = huggingface_hub.ModelCard.load(published / "README.md")
    fields = yaml.safe_load(text.split("---\n")[1])
    assert card.data.to_dict() | {"model-index": 0} == fields | {"model-index": 0}
    assert fields["library_name"] == "ranet_jax"
    assert fields["pipeline_tag"] == "image-segmentation"
    assert (card.data.license, card.data.datasets) == ("apache-2.0", ["sides"])
    assert card.data.model_name == "sides"
    assert {"ranet_jax", "resnet18", "semantic-segmentation"} <= set(card.data.tags)
    assert huggingface_hub.ModelCardData(**card.data.to_dict()).to_yaml()


def test_the_scores_are_those_of_the_step(published):
    """For [[3, 1], [1, 5]] the IoUs are 3/5 and 5/7, the accuracies 8/10, and 3/4 and 5/6."""
    found = results(huggingface_hub.ModelCard.load(published / "README.md"))
    assert found == {
        ("test", "mean_iou", "mean IoU"): pytest.approx((3 / 5 + 5 / 7) / 2),
        ("test", "accuracy", "pixel accuracy"): pytest.approx(8 / 10),
        ("test", "mean_accuracy", "mean accuracy"): pytest.approx((3 / 4 + 5 / 6) / 2),
        ("test", "mean_iou", "coarse mean IoU"): 1,
        ("test", "accuracy", "coarse pixel accuracy"): 1,
        ("test", "mean_accuracy", "coarse mean accuracy"): 1,
        ("val", "mean_iou", "mean IoU"): 0.5,
        ("val", "accuracy", "pixel accuracy"): 0.75,
        ("val", "mean_iou", "coarse mean IoU"): 0.375,
    }


def cells(text, first):
    """The other cells of the table's line that begins with the cell `first`."""
    (line,) = re.findall(rf"^\| {re.escape(first)} +\|.*$", text, re.MULTILINE)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[2:-1]]


def test_the_text_says_what_the_model_is(text, model):
    assert 'ranet_jax.from_pretrained("sides")' in text
    seen = "in windows of 33 x 41, also mirrored"
    assert cells(text, "sides test")[:5] == [seen, "1,200", "65.71", "80.00", "79.17"]
    seen = "as a whole, scaled by 1, 0.75"
    assert cells(text, "sides val") == [seen, "-", "50.00", "75.00", "-", "37.50", "-", "-"]
    assert cells(text, r"left\|right") == ["60.00"]
    assert cells(text, r"né: \#1") == ["71.43"]
    assert cells(text, "step") == ["7 of 2,000"]
    assert cells(text, "batch") == ["6"]
    assert cells(text, "crop") == ["33 x 41"]
    assert cells(text, "seed") == ["3"]
    assert cells(text, "initial weights") == ["resnet18"]
    assert "(123.675, 116.28, 103.53)" in text
    assert "(58.395, 57.12, 57.375)" in text
    assert f"It sees an image {seen}." in text
    assert "backbone `resnet18`, no context block, output stride 8, " in text
    assert r"0 left\|right, 1 né: \#1. Pixels of label 254 were ignored." in text


def test_what_is_not_known_is_left_out(model, tmp_path):
    unknown = Model(model.config, model.module, model.variables, DATASET)
    ranet_jax.save_pretrained(unknown, tmp_path / "plain")
    text = (tmp_path / "plain/README.md").read_text()
    for absent in ("license", "metrics", "model-index", "## Scores", "## Training", "!["):
        assert absent not in text
    assert huggingface_hub.ModelCard(text).data.eval_results is None


def test_an_exported_model_has_the_scores_of_its_own_reports(model, tmp_path):
    model.save(tmp_path / "exported")
    path = tmp_path / "exported/evaluation_test.json"
    path.write_text(json.dumps(report(None)))
    ranet_jax.save_pretrained(ranet_jax.load(path.parent), tmp_path / "published", run=path.parent)
    text = (tmp_path / "published/README.md").read_text()
    assert cells(text, "sides test")[2] == "65.71"
    assert "## Training" not in text


@pytest.fixture
def changed_run(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def test_the_picture_is_the_one_given_or_that_of_the_evaluation(model, changed_run, tmp_path):
    sheet, own = np.full((4, 5, 3), 9, np.uint8), np.full((6, 7, 3), 200, np.uint8)
    Image.fromarray(sheet).save(changed_run / "evaluation_test.png")
    Image.fromarray(own).save(tmp_path / "own.bmp")
    (changed_run / "evaluation_test.json").write_text(json.dumps(report(STEP, pictures=2)))
    for picture, expected in ((None, sheet), (tmp_path / "own.bmp", own)):
        directory = tmp_path / f"with_{picture is None}"
        ranet_jax.save_pretrained(model, directory, changed_run, picture=picture)
        assert "![Predictions of with" in (directory / "README.md").read_text()
        with Image.open(directory / "picture.png") as found:
            np.testing.assert_array_equal(np.asarray(found), expected)
    # Without `--pictures`, the sheet is that of an earlier evaluation.
    (changed_run / "evaluation_test.json").write_text(json.dumps(report(STEP)))
    ranet_jax.save_pretrained(model, tmp_path / "without", changed_run)
    assert not (tmp_path / "without/picture.png").exists()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda run: (run / "evaluation_test.json").write_text("[]"), "is not a report of"),
        (
            lambda run: (run / "evaluation_test.json").write_text(
                json.dumps(report(STEP) | {"fine": {}})
            ),
            "is not a report of",
        ),
        (lambda run: (run / "evaluation_test.json").write_text("{"), "is not JSON"),
        (lambda run: (run / "metrics.jsonl").write_text("1\n"), "a line that training did not"),
        (lambda run: shutil.rmtree(run), "is not a run"),
        (
            lambda run: (run / "dataset.json").write_text(
                (run / "dataset.json").read_text().replace("left", "top")
            ),
            "is not the run of this model",
        ),
    ],
)
def test_a_run_that_cannot_be_read(model, changed_run, tmp_path, spoil, sentence):
    spoil(changed_run)
    with pytest.raises(UserError, match=sentence):
        ranet_jax.save_pretrained(model, tmp_path / "new", changed_run)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("license", ["", "My own", "mit\ntags: x"])
def test_a_license_that_is_no_identifier(model, tmp_path, license):
    with pytest.raises(UserError, match="is not an identifier of the hub; choose one such as"):
        ranet_jax.save_pretrained(model, tmp_path / "new", license=license)
    assert not (tmp_path / "new").exists()
