"""The command line: one full run from a source folder to pictures, and what can go wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

import ranet_jax
from helpers.camvid_source import CONFIG, make_source
from helpers.fakes import brightest_channel_model
from ranet_jax.cli import main
from ranet_jax.config import default_config
from ranet_jax.pipeline.images import read_image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a source, the data set prepared from it, and a config for the data set."""
    root = tmp_path_factory.mktemp("cli")
    source = make_source(root / "source")
    arguments = ["--source", str(source), "--data-dir", str(root / "tfds")]
    assert main(["prepare", "camvid", *arguments]) == 0
    (root / "config.py").write_text(CONFIG.format(data_dir=str(root / "tfds")))
    return root


@pytest.fixture(scope="module")
def workdir(root):
    workdir = root / "run"
    assert main(["train", "--config", str(root / "config.py"), "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture(scope="module")
def model(workdir):
    return ranet_jax.load(workdir)


# -------------------------------------------------------------------------------- all the way


def test_training_leaves_a_whole_workdir(workdir):
    names = {path.name for path in workdir.iterdir()}
    expected = {"config.json", "dataset.json", "metrics.jsonl", "curves.png"}
    assert names == expected | {"checkpoints", "tensorboard", ".lock"}
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["2"]
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 2]
    assert np.isfinite([record["loss"] for record in records[:2]]).all()


def test_evaluation_agrees_with_the_one_of_training(workdir, capsys):
    assert main(["evaluate", str(workdir), "--pictures", "1"]) == 0
    table = capsys.readouterr().out
    scores = json.loads((workdir / "evaluation_val.json").read_text())
    assert (scores["split"], scores["step"], scores["num_images"]) == ("val", 2, 2)
    assert scores["pictures"] == 1
    record = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert scores["fine"]["miou"] == pytest.approx(record["fine_miou"])
    assert scores["coarse"]["miou"] == pytest.approx(record["coarse_miou"])
    assert f"{100 * record['fine_miou']:.2f}" in table
    assert all(name in table for name in ("sky", "bicyclist", "mean IoU"))
    with Image.open(workdir / "evaluation_val.png") as sheet:
        assert sheet.mode == "RGB"


def test_good_images_are_predicted_and_bad_ones_reported(root, workdir, model, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(root / "source" / "test", images)
    (images / "broken.png").write_bytes(b"no image")
    output = tmp_path / "pictures"
    assert main(["predict", str(workdir), str(images), "--output", str(output)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "ranet:" in line]
    assert len(errors) == 1
    assert "broken.png cannot be read as an image" in errors[0]
    names = {f"f_{kind}.png" for kind in ("labels", "overlay", "regions")}
    assert {path.name for path in output.iterdir()} == names

    with Image.open(output / "f_labels.png") as labels:
        assert (labels.mode, labels.size) == ("P", (32, 24))
        assert labels.getpalette()[:9] == [128, 128, 128, 128, 0, 0, 192, 192, 128]
        found = np.asarray(labels)
    with Image.open(images / "f.png") as image:
        np.testing.assert_array_equal(found, model.predict(np.asarray(image)).labels)
    for kind in ("overlay", "regions"):
        with Image.open(output / f"f_{kind}.png") as picture:
            assert picture.mode == "RGB"


def test_good_images_alone_end_in_status_zero(root, tmp_path, monkeypatch, capsys):
    asked = {}

    def load(path, configure):
        asked[path] = configure(default_config())
        return brightest_channel_model()

    monkeypatch.setattr("ranet_jax.inference.model.load", load)
    image = root / "source" / "test" / "f.png"
    arguments = ["somewhere", str(image), "--output", str(tmp_path)]
    assert main(["predict", *arguments, "--config.eval.scales=(1, 1.5)"]) == 0
    assert (tmp_path / "f_labels.png").is_file()
    assert asked[Path("somewhere")].eval.scales == (1.0, 1.5)
    capsys.readouterr()
    assert main(["predict", *arguments, "--max-pixels", str(32 * 24 - 1)]) == 1
    assert "f.png has 768 pixels, which is more than max_pixels, 767" in capsys.readouterr().err


def test_a_model_predicts_the_same_again_and_after_export(root, model, tmp_path):
    with Image.open(root / "source" / "test" / "f.png") as picture:
        image = np.asarray(picture)
    first, second = model.predict(image), model.predict(image)
    assert first.probabilities.shape == (24, 32, 11)
    assert first.regions.labels.shape == (6, 8)
    model.save(tmp_path / "exported")
    exported = ranet_jax.load(tmp_path / "exported").predict(image)
    for other in (second, exported):
        np.testing.assert_array_equal(other.probabilities, first.probabilities)
        np.testing.assert_array_equal(other.regions.labels, first.regions.labels)


def test_a_published_model_predicts_the_same_and_says_what_training_scored(
    root, workdir, model, tmp_path
):
    assert main(["publish", str(workdir), "--output", str(tmp_path / "model")]) == 0
    image = read_image(root / "source" / "test" / "f.png")
    expected = model.predict(image)
    result = ranet_jax.from_pretrained(tmp_path / "model").predict(image)
    for name in ("labels", "probabilities", "coarse", "boundary"):
        assert getattr(result, name).tobytes() == getattr(expected, name).tobytes()
    np.testing.assert_array_equal(result.regions.labels, expected.regions.labels)
    record = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    scores = ModelCard.load(tmp_path / "model" / "README.md").data.eval_results
    (miou,) = (each for each in scores if each.metric_name.startswith("mean IoU"))
    assert (miou.dataset_name, miou.dataset_split) == ("camvid", "val")
    assert miou.metric_value == pytest.approx(record["fine_miou"])


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("evaluate {run} --output {out}/scores.json", {"split": "val", "step": 2}),
        ("prepare camvid --data-dir {root}/tfds", {"dataset": "camvid", "num_images": 3}),
        pytest.param(
            "train --config {root}/config.py --workdir {run}",
            {"num_images": 2, "dataset": "camvid"},
            marks=pytest.mark.long,
        ),
        pytest.param(
            "export {run} --format stablehlo --size 24 32 --output {out}/run.stablehlo",
            {"format": "stablehlo", "size": [24, 32], "labels_differing": 0.0},
            marks=pytest.mark.long,
        ),
        pytest.param(
            "publish {run} --output {out}/model",
            {"output": "{out}/model", "address": None},
            marks=pytest.mark.long,
        ),
        pytest.param(
            "pack camvid --data-dir {root}/tfds --output {out}/camvid.npz --splits val",
            {"dataset": "camvid", "splits": ["val"]},
            marks=pytest.mark.long,
        ),
        pytest.param(
            "port --reverse {run} --format safetensors --output {out}/run.safetensors",
            {"output": "{out}/run.safetensors", "left_out": []},
            marks=pytest.mark.long,
        ),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_results_as_json(command, expected, root, workdir, tmp_path, capsys):
    places = {"root": root, "run": workdir, "out": tmp_path}
    capsys.readouterr()
    assert main([*command.format(**places).split(), "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    document = json.loads(shown.out)
    for name, value in expected.items():
        found = value.format(**places) if isinstance(value, str) else value
        assert document[name] == found


def test_inspection_names_the_network(root, capsys):
    arguments = ["--config", str(root / "config.py"), "--num-classes", "11"]
    assert main(["inspect", *arguments, "--config.model.context=none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["input", "24", "x", "32", "x", "3,", "11", "categories"]
    assert "fine                6 x 8 x 11" in lines
    assert lines[-1].endswith("parameters in total")


@pytest.mark.parametrize(
    "command",
    [
        "train --config {root}/config.py --workdir {out}/run",
        "evaluate {run} --output {out}/scores.json",
        "predict {run} {root}/source/test --output {out}/pictures",
        "reproduce table1 --data camvid --config {root}/config.py --output {out}/tables",
        "inspect --config {root}/config.py",
        "bench step --config {root}/config.py --target h100 --output {out}/step.json",
        "bench device --config {root}/config.py --output {out}/device.json",
    ],
    ids=lambda command: command.partition(" -")[0].partition(" {")[0],
)
def test_values_out_of_range_are_refused_before_anything_is_written(
    command, root, workdir, tmp_path, refusal
):
    before = sorted(workdir.rglob("*"))
    arguments = command.format(root=root, run=workdir, out=tmp_path).split()
    for assignment, sentence in (
        ("optimizer.momentum=1e999", "config.optimizer.momentum is inf; choose a number from 0 up"),
        ("eval.scales=(1, 1e30)", "config.eval.scales holds 1e+30; choose one or more numbers"),
        ("seed=-1", "config.seed is -1; choose a whole number from 0 to 4294967295."),
        (f"seed={10**400}", "config.seed is a number of about 401 digits; choose a whole number"),
        (f"eval.stride_ratio={10**400}", ", not a number of about 401 digits."),
    ):
        assert sentence in refusal(*arguments, f"--config.{assignment}")
    assert list(tmp_path.iterdir()) == []
    assert sorted(workdir.rglob("*")) == before


# -------------------------------------------------------------------------- data and training


def test_options_that_a_command_does_not_take(root, refusal):
    assert "'--steps' is not an option of `ranet prepare`" in refusal(
        "prepare", "shapes", "--steps"
    )
    message = refusal("prepare", "shapes", "--config.data.name=camvid")
    assert "'--config.data.name=camvid' is not an option of `ranet prepare`" in message
    for arguments in (["walk"], ["train"], ["predict", "run"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


def test_a_source_that_is_missing_or_not_wanted(tmp_path, refusal):
    target = ("--data-dir", tmp_path / "tfds")
    message = refusal("prepare", "weather", *target)
    assert message.startswith("There is no data set 'weather'; choose one of camvid, ")
    assert "needs a source folder" in refusal("prepare", "camvid", *target)
    message = refusal("prepare", "camvid", "--source", tmp_path / "nowhere", *target)
    assert f"{tmp_path / 'nowhere'} is missing or empty" in message
    assert "takes no source" in refusal("prepare", "shapes", "--source", tmp_path, *target)
    assert not (tmp_path / "tfds").exists()


def test_a_data_set_that_is_not_prepared(root, tmp_path, refusal):
    train = ("train", "--config", root / "config.py", "--workdir", tmp_path / "run")
    message = refusal(*train, f"--config.data.data_dir={tmp_path}")
    command = f"ranet prepare camvid --source DIR --data-dir {tmp_path}"
    assert message == f"Data set 'camvid' is not prepared in {tmp_path}; run `{command}`."
    message = refusal(*train, f"--config.data.data_dir={tmp_path}", "--config.data.name=shapes")
    assert message.endswith(f"; run `ranet prepare shapes --data-dir {tmp_path}`.")
    message = refusal(*train, "--config.data.name=weather")
    assert "'weather' is not prepared in " in message
    assert "; `ranet prepare` builds camvid, " in message
    assert message.endswith(
        "`ranet prepare folder --source DIR --name weather` builds a data set of your own."
    )
    assert not (tmp_path / "run").exists()


def test_training_that_cannot_start(root, workdir, tmp_path, refusal):
    train = ("train", "--config", root / "config.py", "--workdir")
    message = refusal(*train, tmp_path / "run", "--config.train.batch_size=12")
    assert "batch_size 12 is not divisible by 8 devices" in message
    assert "microbatches is 0" in refusal(*train, tmp_path / "run", "--config.train.microbatches=0")
    for split in ("train_split", "eval_split"):
        message = refusal(*train, tmp_path / "run", f"--config.data.{split}=tarin")
        assert "no split 'tarin'; it has train (3), val (2), test (1)" in message
    assert list(tmp_path.iterdir()) == []

    message = refusal(*train, workdir, "--config.model.width=8")
    assert "made with another config (model.width differ)" in message
    (tmp_path / "file").write_text("kept")
    assert "file cannot be made" in refusal(*train, tmp_path / "file")
    message = refusal(*train, tmp_path / "run", "--num-processes", "2")
    assert "--num-processes has no meaning without --distributed" in message
    message = refusal(*train, tmp_path / "run", "--distributed")
    assert "cannot find one another" in message


# ------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def other_classes(root):
    """A data set prepared like the first one, but with ten classes."""
    version = root / "tfds" / "streets" / "1.0.0"
    shutil.copytree(root / "tfds" / "camvid" / "1.0.0", version)
    for path in version.glob("camvid-*"):
        path.rename(path.with_name(path.name.replace("camvid", "streets", 1)))
    for name in ("dataset_info.json", "metadata.json"):
        fields = json.loads((version / name).read_text())
        if name == "dataset_info.json":
            fields["name"] = "streets"
        else:
            fields |= {key: fields[key][:10] for key in ("class_names", "palette")}
        (version / name).write_text(json.dumps(fields))
    return "streets"


def test_a_data_set_of_other_classes(root, workdir, other_classes, refusal):
    message = refusal("evaluate", workdir, f"--config.data.name={other_classes}")
    assert "was trained on the 11 classes of 'camvid'" in message
    assert "'streets' has 10" in message
    train = ("train", "--config", root / "config.py", "--workdir", workdir)
    message = refusal(*train, f"--config.data.name={other_classes}")
    assert "another config (data.name differ)" in message


def test_a_checkpoint_that_is_missing(root, tmp_path, refusal):
    image = root / "source" / "test" / "f.png"
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "checkpoints" / "3"):
        assert f"{path} holds no checkpoint" in refusal("evaluate", path)
        message = refusal("predict", path, image, "--output", tmp_path / "out")
        assert f"{path} holds no checkpoint" in message
    assert not (tmp_path / "out").exists()


def test_what_a_checkpoint_cannot_be_asked_for(root, workdir, tmp_path, refusal):
    assert "model.width cannot be set here" in refusal(
        "evaluate", workdir, "--config.model.width=8"
    )
    assert "mode is 'tiles'" in refusal("evaluate", workdir, "--config.eval.mode=tiles")
    assert "no split 'trial'" in refusal("evaluate", workdir, "--split", "trial")
    for count in ("-1", "9" * 30):
        message = refusal("evaluate", workdir, "--pictures", count)
        assert message.startswith(f"The number of pictures is {count}; choose ")
    message = refusal("evaluate", workdir, "--output", tmp_path / "missing" / "scores.json")
    assert "missing for the scores is missing" in message
    (tmp_path / "empty").mkdir()
    message = refusal("predict", workdir, tmp_path / "empty", "--output", tmp_path / "out")
    assert "holds no image file" in message
