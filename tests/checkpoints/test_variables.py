"""Working directories and exported models: what is written, read back, kept and refused."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import training
from helpers.fields import another_value
from ranet_jax import checkpoints
from ranet_jax.config import set_field
from ranet_jax.config.declarations import FIELDS
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import DatasetMetadata

DATASET = DatasetMetadata("toy", ("left", "right"), ((200, 0, 0), (0, 0, 200)))
OTHER = DatasetMetadata("toy", ("left", "right"), ((200, 0, 0), (0, 0, 100)))


def variables(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "params": {"head": {"kernel": rng.normal(size=(2, 3)).astype(np.float32)}},
        "batch_stats": {"bn": {"mean": rng.normal(size=3).astype(np.float32)}},
    }


def state(value, ema=None):
    def params(x):
        return {"head": {"kernel": jnp.full((2, 3), x)}}

    return {
        "step": jnp.int32(value),
        "params": params(float(value)),
        "batch_stats": {"bn": {"mean": jnp.zeros(3)}},
        "ema_params": None if ema is None else params(ema),
    }


def assert_same_arrays(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, np.ndarray)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def first_value(variables):
    return variables["params"]["head"]["kernel"][0, 0]


@pytest.fixture
def exported(tmp_path):
    directory = tmp_path / "exported"
    checkpoints.export(directory, training.tiny_config(), DATASET, variables())
    return directory


def files(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_an_exported_model_reads_back(exported):
    config, dataset, read, step = checkpoints.load_variables(exported)
    assert config.to_dict() == training.tiny_config().to_dict()
    assert dataset == DATASET
    assert step is None
    assert_same_arrays(read, variables())
    assert {path.name for path in exported.parent.iterdir()} == {"exported"}


def test_an_export_overwrites_nothing(exported, tmp_path):
    before = files(exported)
    with pytest.raises(UserError, match="exported exists already; choose another directory"):
        checkpoints.export(exported, training.tiny_config(), DATASET, variables(1))
    assert files(exported) == before
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="exists already"):
        checkpoints.export(tmp_path / "file", training.tiny_config(), DATASET, variables(1))
    assert (tmp_path / "file").read_text() == "kept"


def test_a_cut_off_export_is_no_model_and_no_obstacle(exported):
    exported.rename(exported.with_name(".exported.1.partial"))
    with pytest.raises(UserError, match="exported holds no checkpoint"):
        checkpoints.load_variables(exported)
    checkpoints.export(exported, training.tiny_config(), DATASET, variables(1))
    assert_same_arrays(checkpoints.load_variables(exported).variables, variables(1))


def test_a_damaged_export_is_named(exported):
    for path in (exported / "variables").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(UserError, match=r"exported/variables/.* has a different size"):
        checkpoints.load_variables(exported)


def test_a_config_of_another_version_is_named(exported):
    fields = json.loads((exported / "config.json").read_text())
    fields["model"]["speed"] = 3
    (exported / "config.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"exported cannot be loaded: .* no field 'model.speed'"):
        checkpoints.load_variables(exported)


@pytest.mark.parametrize("name", ["config.json", "dataset.json"])
def test_a_missing_or_broken_description_is_named(exported, name):
    (exported / name).write_text("{")
    with pytest.raises(UserError, match=f"{name} is not JSON"):
        checkpoints.load_variables(exported)
    (exported / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        checkpoints.load_variables(exported)


@pytest.fixture
def workdir(tmp_path):
    directory = tmp_path / "run"
    checkpoints.prepare_workdir(directory, training.tiny_config(), DATASET)
    return directory


def test_the_latest_counts_where_none_was_evaluated(workdir):
    with checkpoints.open_manager(workdir, 2) as manager:
        for step in (1, 2, 3):
            checkpoints.save(manager, step, state(step))
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "3"]
    config, dataset, read, step = checkpoints.load_variables(workdir)
    assert (config.to_dict(), dataset) == (training.tiny_config().to_dict(), DATASET)
    assert (step, first_value(read)) == (3, 3.0)
    _, _, read, step = checkpoints.load_variables(workdir / "checkpoints" / "2")
    assert (step, first_value(read)) == (2, 2.0)


def test_the_best_counts_and_is_kept(workdir):
    with checkpoints.open_manager(workdir, 1) as manager:
        for step, miou in ((1, 0.2), (2, 0.6), (3, 0.4), (4, None)):
            checkpoints.save(manager, step, state(step), miou)
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "4"]
    assert checkpoints.load_variables(workdir).step == 2


def test_the_moving_average_is_preferred(workdir):
    with checkpoints.open_manager(workdir, 1) as manager:
        checkpoints.save(manager, 1, state(1, ema=0.25))
    assert first_value(checkpoints.load_variables(workdir).variables) == 0.25
    assert first_value(checkpoints.load_variables(workdir, use_ema=False).variables) == 1.0


def test_a_state_of_another_network_is_named(workdir):
    with checkpoints.open_manager(workdir, 1) as manager:
        checkpoints.save(manager, 1, state(1))
        manager.wait_until_finished()
        assert int(checkpoints.restore_latest(manager, state(0))["step"]) == 1
        other = state(0) | {"params": {"head": {"kernel": jnp.zeros((2, 4))}}}
        with pytest.raises(UserError, match=r"params/head/kernel \(\(2, 3\) instead of \(2, 4\)"):
            checkpoints.restore_latest(manager, other)
        other["params"]["head"] = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
        with pytest.raises(UserError, match=r"1 arrays are missing.*params/head/bias"):
            checkpoints.restore_latest(manager, other)


def test_a_fresh_directory_leaves_the_state_as_it_is(workdir):
    fresh = state(0)
    with checkpoints.open_manager(workdir, 1) as manager:
        assert checkpoints.restore_latest(manager, fresh) is fresh
    with pytest.raises(UserError, match="holds no finished checkpoint yet"):
        checkpoints.load_variables(workdir)


def test_reading_leaves_alone_what_another_process_writes(workdir):
    with checkpoints.open_manager(workdir, 1) as manager:
        checkpoints.save(manager, 1, state(1))
    unfinished = workdir / "checkpoints" / "2.orbax-checkpoint-tmp"
    shutil.copytree(workdir / "checkpoints" / "1", unfinished)
    before = files(workdir)
    assert checkpoints.load_variables(workdir).step == 1
    assert files(workdir) == before


def test_a_workdir_belongs_to_its_config_and_data_set(workdir):
    with checkpoints.open_manager(workdir, keep=1) as manager:
        checkpoints.save(manager, 1, state(1))
    before = files(workdir)
    config = training.tiny_config()
    config.model.width = 8
    config.eval.scales = (1.0, 2.0)
    config.optimizer.momentum = 0.5
    with pytest.raises(UserError, match=r"\(model.width, optimizer.momentum differ\)"):
        checkpoints.prepare_workdir(workdir, config, DATASET)
    with pytest.raises(UserError, match="another version of data set 'toy'"):
        checkpoints.prepare_workdir(workdir, training.tiny_config(), OTHER)
    assert files(workdir) == before


@pytest.mark.parametrize("name", FIELDS)
def test_a_workdir_goes_on_unless_weights_or_training_change(workdir, name):
    (workdir / "checkpoints" / "1").mkdir(parents=True)
    before, config = files(workdir), training.tiny_config()
    set_field(config, name, another_value(FIELDS[name]))
    assert config.to_dict() != training.tiny_config().to_dict()
    if FIELDS[name].effect in ("scores", "running"):
        checkpoints.prepare_workdir(workdir, config, DATASET)
    else:
        with pytest.raises(UserError, match=rf"another config \({name} differ\); choose another"):
            checkpoints.prepare_workdir(workdir, config, DATASET)
    assert files(workdir) == before


def test_fields_of_evaluation_and_logging_let_a_workdir_go_on():
    free = {name for name, field in FIELDS.items() if field.effect in ("scores", "running")}
    evaluation = {name for name in FIELDS if name.startswith("eval.")}
    records = {f"train.{n}_every" for n in ("log", "eval", "checkpoint")} | {
        "train.keep_checkpoints"
    }
    places = {"data.data_dir", "data.eval_split", "model.init_from", "model.init_allow_missing"}
    assert free == evaluation | records | places | {
        "train.parallel",
        "train.patience",
        "model.region_path",
    }


def test_a_workdir_older_than_a_field_had_its_default(workdir):
    with checkpoints.open_manager(workdir, keep=1) as manager:
        checkpoints.save(manager, 1, state(1))
    fields = json.loads((workdir / "config.json").read_text())
    del fields["model"]["region_path"], fields["model"]["kernel_size"]
    (workdir / "config.json").write_text(json.dumps(fields))
    before, config = files(workdir), training.tiny_config()
    for path in ("dense", "streaming"):
        config.model.region_path = path
        checkpoints.prepare_workdir(workdir, config, DATASET)
    config.model.kernel_size = 3
    with pytest.raises(UserError, match=r"\(model.kernel_size differ\)"):
        checkpoints.prepare_workdir(workdir, config, DATASET)
    assert files(workdir) == before


def test_a_workdir_of_a_field_that_is_no_more_is_refused(workdir):
    with checkpoints.open_manager(workdir, keep=1) as manager:
        checkpoints.save(manager, 1, state(1))
    fields = json.loads((workdir / "config.json").read_text())
    fields["model"]["speed"] = 3
    (workdir / "config.json").write_text(json.dumps(fields))
    before = files(workdir)
    with pytest.raises(UserError, match=r"no field 'model\.speed'"):
        checkpoints.prepare_workdir(workdir, training.tiny_config(), DATASET)
    assert files(workdir) == before


def test_a_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=f"Directory {path} cannot be made"):
            checkpoints.prepare_workdir(path, training.tiny_config(), DATASET)
