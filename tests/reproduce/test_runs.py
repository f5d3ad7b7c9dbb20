"""`ranet reproduce`: which networks a table trains, what it writes, what it does not do twice."""

import json
import statistics

import numpy as np
import pytest

from helpers import training
from ranet_jax.cli import main
from ranet_jax.config import config_from_json, config_to_json, set_field
from ranet_jax.config_files import load_config
from ranet_jax.errors import UserError
from ranet_jax.evaluation.metrics import SegmentationScores
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.files import make_directory
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.pipeline.training_data import TrainingData
from ranet_jax.reproduce import TABLES, base_config, reproduce, runs
from ranet_jax.reproduce.oracle import build_oracle

pytestmark = pytest.mark.slow

ROWS = [(name, row) for name, table in TABLES.items() for row in table.rows]


def base():
    config = training.tiny_config()
    config.model.context = "ranet"
    return config


def scores(correct):
    """Scores of two classes with ten pixels each, `correct` of them right in both."""
    return SegmentationScores(np.array([[correct, 10 - correct], [10 - correct, correct]]))


def miou(correct):
    return 100 * correct / (20 - correct)


@pytest.fixture
def trained(monkeypatch):
    """Replace training by scores that tell the network and the seed; return those trained."""
    calls = []

    def train(config, workdir, dataset, train_batches, eval_batches, build):
        calls.append((config.model.context, config.seed))
        assert (build is build_oracle) == (workdir.parent.name == "oracle")
        make_directory(workdir, "working directory")
        correct = config.seed + (4 if config.model.context == "none" else 6)
        return EvaluationResult(
            training.DATASET, InferenceSettings(), 2, 1.0, scores(correct), scores(correct - 1)
        )

    monkeypatch.setattr(runs, "train", train)
    data = TrainingData(training.DATASET, lambda step: iter(()), lambda: ())
    monkeypatch.setattr(runs, "open_training_data", lambda config: data)
    return calls


def read(path):
    return json.loads((path / "table1.json").read_text())


def test_a_table_of_two_networks_and_three_seeds(trained, tmp_path, capsys):
    text = reproduce("table1", base(), tmp_path, seeds=3, rows=["none", "ranet"])
    assert trained == [(run, seed) for seed in range(3) for run in ("none", "ranet")]
    assert (tmp_path / "table1.md").read_text() == text + "\n"
    first, *others, last = read(tmp_path)["rows"]
    assert first["run"] == "none"
    assert all(row["miou"] is None for row in others)
    expected = [miou(correct) for correct in (4, 5, 6)]
    np.testing.assert_allclose(list(first["miou_by_seed"].values()), expected)
    assert first["miou"] == pytest.approx(np.mean(expected))
    assert first["deviation"] == pytest.approx(statistics.stdev(expected))
    assert last["paper"] == {"cityscapes": 81.9}
    (line,) = (line for line in text.splitlines() if line.startswith("| backbone alone"))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [
        "77.5",
        f"{np.mean(expected):.2f} ± {statistics.stdev(expected):.2f}",
        "3",
    ]
    assert "after 6 steps of 8 crops of" in text
    assert "evaluated on whole images at scale 1.0." in text
    assert "run 6 of 6" in capsys.readouterr().out


def test_what_is_finished_is_not_trained_again(trained, tmp_path):
    reproduce("table1", base(), tmp_path, seeds=1, rows=["none"])
    reproduce("table1", base(), tmp_path, seeds=2, rows=["none", "ranet"])
    assert trained == [("none", 0), ("ranet", 0), ("none", 1), ("ranet", 1)]
    reproduce("table1", base(), tmp_path, seeds=2, rows=["none"])
    assert [row["run"] for row in read(tmp_path)["rows"] if row["miou"]] == ["none", "ranet"]
    reproduce("table4", base(), tmp_path, seeds=2)
    assert len(trained) == 4
    coarse, fine = json.loads((tmp_path / "table4.json").read_text())["rows"]
    assert (coarse["output"], fine["output"]) == ("coarse", "fine")
    np.testing.assert_allclose(list(coarse["miou_by_seed"].values()), [miou(5), miou(6)])
    np.testing.assert_allclose(list(fine["miou_by_seed"].values()), [miou(6), miou(7)])


def test_a_table_on_a_store_is_that_of_a_disk(trained, tmp_path, bucket):
    text = reproduce("table1", base(), tmp_path, rows=["none", "ranet"])
    assert reproduce("table1", base(), bucket.url("table"), rows=["none", "ranet"]) == text
    assert bucket.files("table/")["table1.json"] == (tmp_path / "table1.json").read_bytes()
    assert "runs/none/seed_0/result.json" in bucket.files("table/")
    reproduce("table1", base(), bucket.url("table"), rows=["none", "ranet"])
    assert len(trained) == 4  # two in each place; none is trained again


def test_a_table_that_was_cut_off_has_what_is_finished(trained, tmp_path, monkeypatch):
    train = runs.train

    def cut_off(config, *arguments):
        if config.model.context == "ranet":
            raise KeyboardInterrupt
        return train(config, *arguments)

    monkeypatch.setattr(runs, "train", cut_off)
    with pytest.raises(KeyboardInterrupt):
        reproduce("table1", base(), tmp_path, rows=["none", "ranet"])
    first, *_, last = read(tmp_path)["rows"]
    assert first["miou"] == pytest.approx(miou(4))
    assert last["miou"] is None
    assert " - |" in (tmp_path / "table1.md").read_text()
    monkeypatch.setattr(runs, "train", train)
    reproduce("table1", base(), tmp_path, rows=["none", "ranet"])
    assert trained == [("none", 0), ("ranet", 0)]


def test_a_directory_of_another_experiment_is_left_alone(trained, tmp_path):
    reproduce("table1", base(), tmp_path, rows=["none"])
    other = base()
    other.optimizer.learning_rate = 7.0
    with pytest.raises(UserError, match=r"seed_0 was trained with another config \(optimizer\."):
        reproduce("table1", other, tmp_path, rows=["none"])
    for field, value in (
        ("model.init_from", "weights"),
        ("data.data_dir", "elsewhere"),
        ("eval.flip", True),
    ):
        other = base()
        set_field(other, field, value)
        with pytest.raises(UserError, match=rf"with another config \({field} differ\)"):
            reproduce("table1", other, tmp_path, rows=["none"])
    other = base()
    other.train.update(log_every=3, eval_every=2)
    other.eval.batch_size = 1
    reproduce("table1", other, tmp_path, rows=["none"])
    assert len(trained) == 1


def test_a_field_younger_than_a_run_had_its_default(trained, tmp_path):
    reproduce("table1", base(), tmp_path, rows=["none"])
    path = tmp_path / "runs" / "none" / "seed_0" / "result.json"
    fields = json.loads(path.read_text())
    del fields["config"]["model"]["inter_region"]
    path.write_text(json.dumps(fields))
    reproduce("table1", base(), tmp_path, rows=["none"])
    assert len(trained) == 1


def test_a_run_from_before_end_points_is_not_taken_for_todays(trained, tmp_path):
    reproduce("table1", base(), tmp_path, rows=["ranet"])
    path = tmp_path / "runs" / "ranet" / "seed_0" / "result.json"
    fields = json.loads(path.read_text())
    del fields["config"]["loss"]["boundary_target"]
    path.write_text(json.dumps(fields))
    with pytest.raises(
        UserError, match=r"ranet/seed_0 was trained by another version: .* end points"
    ):
        reproduce("table1", base(), tmp_path, rows=["ranet"])


def test_the_oracle_is_trained_on_its_own(trained, tmp_path):
    text = reproduce("oracle", base(), tmp_path)
    assert trained == [("none", 0), ("ranet", 0), ("ranet", 0)]
    assert text.startswith("# What perfect regions would give\n")
    assert "| method | here, toy val | seeds |" in " ".join(text.split()).replace("  ", " ")
    sliding = base()
    sliding.eval.mode = "slide"
    with pytest.raises(UserError, match="whole images at their own scale"):
        reproduce("oracle", sliding, tmp_path)
    assert (tmp_path / "runs" / "oracle" / "seed_0" / "result.json").is_file()


def test_rows_of_one_name_are_one_network():
    by_run = {}
    for _, row in ROWS:
        if row.oracle:
            continue
        config = config_to_json(runs._row_config(row, base(), 0))
        assert by_run.setdefault(row.run, config) == config
    distinct = [json.dumps(config, sort_keys=True) for config in by_run.values()]
    assert len(set(distinct)) == len(distinct)


def test_a_row_changes_its_fields_and_the_seed_alone():
    config = runs._row_config(TABLES["table2"].rows[0], base(), 5)
    expected = base()
    expected.model.per_region, expected.seed = 2, 5
    assert config.to_dict() == config_from_json(config_to_json(expected)).to_dict()


def test_bad_requests(trained, tmp_path):
    with pytest.raises(UserError, match=r"table1 has no row 'vgg'; choose one of none, psp"):
        reproduce("table1", base(), tmp_path, rows=["vgg"])
    with pytest.raises(UserError, match="number of trainings of each row is 0; choose 1"):
        reproduce("table2", base(), tmp_path, seeds=0)
    plain = base()
    plain.model.context = "none"
    with pytest.raises(UserError, match=r"context 'none' and variant 'paper'; the rows of table1"):
        reproduce("table1", plain, tmp_path)
    for field, value in (("per_region", 4), ("region_scores", "boundary"), ("inter_region", False)):
        part = base()
        part.model[field] = value
        with pytest.raises(UserError, match=f"{field} is {value!r}; the rows of table1"):
            reproduce("table1", part, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file cannot be made"):
        reproduce("table1", base(), tmp_path / "file")
    assert not trained


def test_the_command(trained, tmp_path, capsys):
    arguments = ["--data", "shapes", "--steps", "7", "--rows", "none", "--output", str(tmp_path)]
    assert main(["reproduce", "table1", *arguments, "--config.optimizer.momentum=0.5"]) == 0
    config = read(tmp_path)["config"]
    assert (config["train"]["steps"], config["train"]["eval_every"]) == (7, 7)
    assert config["optimizer"]["warmup_steps"] == 0
    assert config["optimizer"]["momentum"] == 0.5
    assert config["data"]["name"] == "shapes"
    assert "| backbone alone" in capsys.readouterr().out
    assert main(["reproduce", "table1", *arguments, "--steps", "0"]) == 1
    assert "--steps is 0; choose 1 or more." in capsys.readouterr().err
    arguments[1] = "cats"
    assert main(["reproduce", "table1", *arguments]) == 1
    assert "no experiment on data set 'cats'" in capsys.readouterr().err


def test_nothing_is_written_before_the_data_set_is_there(tmp_path, capsys):
    output = tmp_path / "results"
    arguments = ["--data", "shapes", "--data-dir", str(tmp_path), "--output", str(output)]
    assert main(["reproduce", "table1", *arguments]) == 1
    assert f"run `ranet prepare shapes --data-dir {tmp_path}`." in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("dataset", runs.BASES)
def test_every_row_changes_every_base_to_a_network(dataset):
    config = load_config(str(base_config(dataset)))
    for name in TABLES:
        runs._check_base(name, config)


def test_other_blocks_do_without_the_aspp_of_ranet():
    config = base()
    config.model.update(aspp_rates=(2, 4), stages=2)
    for name in TABLES:
        runs._check_base(name, config)
    assert runs._row_config(TABLES["table1"].rows[0], config, 0).model.aspp_rates == ()
    assert runs._row_config(TABLES["table1"].rows[-1], config, 0).model.aspp_rates == (2, 4)
