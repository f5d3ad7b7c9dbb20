"""Submissions in the form that Cityscapes' own evaluation script reads."""

import zipfile

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from cityscapesscripts.helpers import labels as official_labels
from PIL import Image

from ranet_data.cityscapes.labels import LABELS, TRAINED, to_train_ids
from ranet_jax import cli
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.evaluation.metrics import SegmentationScores, confusion_matrix
from ranet_jax.inference import model as inference
from ranet_jax.inference import submission
from ranet_jax.inference.submission import write_submission
from ranet_jax.pipeline.metadata import DatasetMetadata

CLASSES = tuple(label.name for label in TRAINED)
CITYSCAPES = DatasetMetadata("cityscapes", CLASSES, tuple(label.color for label in TRAINED))
NAMES = ("frankfurt_000000_000294", "munster_000001_000019", "bad-honnef_000002_000019")
SIZE = (12, 20)


def test_the_table_of_labels_is_the_official_one():
    expected = [
        (x.id, x.name, x.trainId if 0 <= x.trainId < 255 else None, x.color)
        for x in official_labels.labels
        if x.id >= 0
    ]
    assert [tuple(label) for label in LABELS] == expected


class RedModel(inference.Model):
    """A pixel's class is its red value."""

    def __init__(self, gain=1.0, flip=False):
        self.config = default_config()
        self.settings = inference.InferenceSettings(flip=flip)
        self.variables = {"params": {"gain": np.float32(gain)}}
        self.dataset = CITYSCAPES
        self.seen = []

    def predict(self, image, with_regions=True):
        assert not with_regions
        self.seen.append(image.shape)
        return inference.Prediction(image[..., 0], np.zeros((*image.shape[:2], 19), np.float32))


def train_ids(name):
    """Random train ids of 17 of the 19 classes."""
    return np.random.default_rng(len(name)).integers(0, 17, SIZE).astype(np.uint8)


@pytest.fixture
def images(tmp_path):
    """A directory of images, a folder for each city."""
    for name in NAMES:
        path = tmp_path / "images" / name.split("_")[0] / f"{name}_leftImg8bit.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.stack([train_ids(name)] * 3, -1)).save(path)
    return tmp_path / "images"


def read(archive):
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        found = {}
        for name in file.namelist():
            with file.open(name) as member, Image.open(member) as image:
                assert (image.format, image.mode) == ("PNG", "L")
                found[name] = np.asarray(image)
    return found


def test_the_archive_holds_the_ids_of_each_image(images, tmp_path):
    assert write_submission(RedModel(), "cityscapes", [images], tmp_path / "val.zip") == 3
    found = read(tmp_path / "val.zip")
    assert sorted(found) == sorted(f"{name}_labelIds.png" for name in NAMES)
    for name in NAMES:
        ids = found[f"{name}_labelIds.png"]
        np.testing.assert_array_equal(to_train_ids(ids), train_ids(name))
        assert ids.min() >= 7


def test_an_archive_on_a_store_is_that_of_a_disk_and_goes_on(images, tmp_path, bucket):
    write_submission(RedModel(), "cityscapes", [images], tmp_path / "val.zip")
    model = RedModel()
    model.predict = interrupt_after(model.predict, 2)
    with pytest.raises(KeyboardInterrupt):
        write_submission(model, "cityscapes", [images], bucket.url("sent/val.zip"))
    assert len(bucket.files("sent/val/")) == 3  # two label images, and the model's name
    model = RedModel()
    assert write_submission(model, "cityscapes", [images], bucket.url("sent/val.zip")) == 3
    assert len(model.seen) == 1
    (tmp_path / "sent.zip").write_bytes(bucket.files("sent/")["val.zip"])
    found, expected = read(tmp_path / "sent.zip"), read(tmp_path / "val.zip")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def interrupt_after(predict, count):
    """Predict `count` images; the next one raises KeyboardInterrupt, as Ctrl-C does."""
    left = iter(range(count))

    def then_interrupt(image, with_regions=True):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return predict(image, with_regions)

    return then_interrupt


def test_the_official_script_gives_the_scores_of_ours(images, tmp_path):
    """Its IoUs on files of ids equal ours on train ids, for classes that occur and that do not."""
    write_submission(RedModel(), "cityscapes", [images], tmp_path / "val.zip")
    predictions = read(tmp_path / "val.zip")
    rng = np.random.default_rng(7)
    pairs, confusion = [], np.zeros((19, 19), np.int64)
    for name in NAMES:
        predicted = predictions[f"{name}_labelIds.png"]
        truth = np.where(rng.random(SIZE) < 0.6, predicted, rng.integers(0, 31, SIZE))
        truth = truth.astype(np.uint8)
        files = [tmp_path / f"{name}_{kind}.png" for kind in ("pred", "gt")]
        for file, array in zip(files, (predicted, truth), strict=True):
            Image.fromarray(array).save(file)
        pairs.append([str(file) for file in files])
        labels, chosen = (to_train_ids(array)[None] for array in (truth, predicted))
        confusion += np.asarray(confusion_matrix(labels, chosen, 19), np.int64)
    arguments = official.args
    arguments.evalInstLevelScore, arguments.JSONOutput, arguments.quiet = False, False, True
    predicted_files, true_files = zip(*pairs, strict=True)
    result = official.evaluateImgLists(predicted_files, true_files, arguments)
    ours = SegmentationScores(confusion)
    assert np.isnan(ours.class_iou).any()
    theirs = [result["classScores"][name] for name in CLASSES]
    np.testing.assert_allclose(ours.class_iou, theirs, rtol=1e-12)
    assert ours.miou == pytest.approx(result["averageScoreClasses"], rel=1e-12)


def test_one_that_was_cut_off_goes_on_with_the_same_model_alone(images, tmp_path, monkeypatch):
    pack = submission._pack

    def cut_off(*arguments):
        raise KeyboardInterrupt

    archive, model = tmp_path / "val.zip", RedModel()
    monkeypatch.setattr(submission, "_pack", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_submission(model, "cityscapes", [images], archive)
    assert not archive.exists()
    (tmp_path / "val" / "munster_000001_000019_labelIds.png").unlink()
    monkeypatch.setattr(submission, "_pack", pack)
    for other in (RedModel(gain=2.0), RedModel(flip=True)):
        with pytest.raises(UserError, match="is from another model or other settings"):
            write_submission(other, "cityscapes", [images], archive)
    model.seen.clear()
    write_submission(model, "cityscapes", [images], archive)
    assert len(model.seen) == 1
    assert len(read(archive)) == 3


def test_one_that_was_cut_off_at_once_goes_on(images, tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / ".model.json.1.partial").write_text("{")
    assert write_submission(RedModel(), "cityscapes", [images], tmp_path / "val.zip") == 3


def test_what_cannot_be_submitted(images, tmp_path):
    archive = tmp_path / "out.zip"

    def refusal(paths, output=archive, model=None):
        with pytest.raises(UserError) as caught:
            write_submission(model or RedModel(), "cityscapes", paths, output)
        assert not archive.exists()
        return str(caught.value)

    assert "does not end in .zip" in refusal([images], tmp_path / "out")
    (tmp_path / "photo.png").write_bytes(b"")
    assert "photo.png is not named like the images of city" in refusal([tmp_path / "photo.png"])
    (tmp_path / "none").mkdir()
    assert "holds no .png image" in refusal([tmp_path / "none"])
    other = RedModel()
    other.dataset = DatasetMetadata("toy", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    assert "but cityscapes expects road, sidewalk" in refusal([images], model=other)
    broken = next(images.rglob("munster*.png"))
    broken.write_bytes(b"no image")
    assert f"{broken} cannot be read as an image" in refusal([images])
    copy = tmp_path / "copy" / broken.name
    copy.parent.mkdir()
    copy.write_bytes(b"another")
    assert "are the same image; leave one out" in refusal([images, copy])
    archive.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already"):
        write_submission(RedModel(), "cityscapes", [images], archive)
    assert archive.read_bytes() == b"precious"


def test_the_command(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(inference, "load", lambda path, configure: RedModel())
    archive = tmp_path / "val.zip"
    arguments = ["predict", "runs/x", str(images), "--output", str(archive)]
    assert cli.main([*arguments, "--submission", "cityscapes"]) == 0
    done, missing = capsys.readouterr().out.splitlines()
    assert done == f"3 label images are in {archive}."
    assert "expects all 1525 images" in missing
    assert len(read(archive)) == 3
