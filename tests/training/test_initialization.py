"""Training from existing weights: what is taken, what is reported, what resuming needs."""

import re
import shutil

import flax.traverse_util
import jax
import numpy as np
import pytest

from helpers import training
from ranet_jax import checkpoints
from ranet_jax.checkpoints.steps import read_state
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.files import write_json
from ranet_jax.hub import save_pretrained
from ranet_jax.inference.model import load
from ranet_jax.models import build_model
from ranet_jax.porting import port_state_dict, reverse, write_ported
from ranet_jax.porting.files import read_state_dict
from ranet_jax.training.initialization import initialize
from ranet_jax.training.loop import train

pytestmark = pytest.mark.slow


def flatten(variables):
    return flax.traverse_util.flatten_dict(variables, sep="/")


def unflatten(arrays):
    return flax.traverse_util.unflatten_dict(arrays, sep="/")


def random_variables(config, num_classes=2, seed=0):
    """Random arrays of a config's network; variances are positive."""
    images = jax.ShapeDtypeStruct((1, 24, 24, 3), np.float32)
    module = build_model(config, num_classes)
    shapes = flatten(jax.eval_shape(module.init, jax.random.PRNGKey(0), images))
    rng = np.random.default_rng(seed)
    return unflatten(
        {
            path: np.asarray(np.abs(rng.normal(size=x.shape)) + 0.1, np.float32)
            for path, x in shapes.items()
        }
    )


def backbone_of(variables):
    return {collection: arrays["backbone"] for collection, arrays in variables.items()}


def model_config(**fields):
    config = training.tiny_config()
    config.model.update(**fields)
    return config.model


@pytest.fixture
def donor():
    """A trained model's variables."""
    return random_variables(training.tiny_config(), seed=1)


@pytest.fixture
def fresh():
    """Variables that training would start from."""
    return random_variables(training.tiny_config(), seed=2)


@pytest.fixture
def exported(tmp_path, donor):
    checkpoints.export(tmp_path / "exported", training.tiny_config(), training.DATASET, donor)
    return tmp_path / "exported"


@pytest.fixture
def backbone(tmp_path):
    """Write a directory with only a backbone, as `ranet port` does."""

    def write(variables, network="resnet18"):
        directory = tmp_path / "backbone"
        directory.mkdir()
        write_json(directory / "port.json", {"network": network, "naming": "", "fresh": []})
        checkpoints.write_variables(directory / "variables", variables)
        return directory

    return write


def assert_equal(found, expected):
    found, expected = flatten(found), flatten(expected)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


def refusal(model, variables):
    with pytest.raises(UserError) as caught:
        initialize(model, variables)
    return str(caught.value)


# ------------------------------------------------------------------------------- what is taken


def test_without_a_directory_nothing_is_taken(fresh):
    variables, sentence = initialize(default_config().model, fresh)
    assert variables is fresh
    assert sentence is None


def test_a_whole_model_gives_all_its_arrays(exported, donor, fresh):
    variables, sentence = initialize(model_config(init_from=str(exported)), fresh)
    assert_equal(variables, donor)
    count = len(flatten(donor))
    assert sentence == (
        f"{count} arrays start from {exported}, 0 from random values; 0 of its arrays do not belong"
        " to this network."
    )


def test_a_working_directory_gives_its_best_checkpoint(tmp_path, donor, fresh):
    checkpoints.prepare_workdir(tmp_path / "run", training.tiny_config(), training.DATASET)
    with checkpoints.open_manager(tmp_path / "run", 2) as manager:
        for step, (variables, miou) in enumerate(((donor, 0.9), (fresh, 0.1)), 1):
            state = {"step": step, "ema_params": None, **variables}
            checkpoints.save(manager, step, state, miou)
    variables, _ = initialize(model_config(init_from=str(tmp_path / "run")), fresh)
    assert_equal(variables, donor)


def test_a_published_directory_gives_all_its_arrays(exported, donor, fresh, tmp_path):
    save_pretrained(load(exported), tmp_path / "published")
    variables, sentence = initialize(model_config(init_from=str(tmp_path / "published")), fresh)
    assert_equal(variables, donor)
    assert ", 0 from random values; " in sentence
    with pytest.raises(UserError, match="holds the weights of resnet18, but config"):
        initialize(model_config(init_from=str(tmp_path / "published"), backbone="resnet34"), fresh)


def test_a_backbone_gives_the_backbone_alone(backbone, donor, fresh):
    before = {path: array.copy() for path, array in flatten(fresh).items()}
    directory = backbone(backbone_of(donor))
    variables, sentence = initialize(model_config(init_from=str(directory)), fresh)
    assert_equal(backbone_of(variables), backbone_of(donor))
    others = {path for path in before if "/backbone/" not in path}
    assert len(others) > 3
    for path in others:
        np.testing.assert_array_equal(flatten(variables)[path], before[path])
    assert_equal(fresh, unflatten(before))
    taken = len(before) - len(others)
    assert sentence == (
        f"{taken} arrays start from {directory}, {len(others)} from random values"
        " (context/fuse/bn, context/fuse/conv, context/reduce/bn, context/reduce/conv, fine_logit);"
        " 0 of its arrays do not belong to this network."
    )


def test_the_weights_of_another_backbone_are_none(backbone, donor, fresh):
    """A deeper network of the same widths has all the arrays of a shallower one."""
    directory = backbone(backbone_of(donor), "resnet34")
    assert refusal(model_config(init_from=str(directory)), fresh) == (
        f"config.model.init_from {directory} holds the weights of resnet34, but"
        " config.model.backbone is 'resnet18'; make them the same."
    )


def test_a_description_without_network_is_refused(backbone, donor, fresh):
    directory = backbone(backbone_of(donor))
    for text in ("{}", "[]", '{"network": 3}'):
        (directory / "port.json").write_text(text)
        complaint = refusal(model_config(init_from=str(directory)), fresh)
        assert complaint.startswith(f"{directory / 'port.json'} lacks a field 'network' of type")


def test_arrays_that_no_one_asked_for_are_counted(backbone, donor, fresh):
    """The weights hold an image classifier and stages that the segmenter does not have."""
    given = backbone_of(donor)
    given["params"]["fc"] = {"kernel": np.ones((8, 5)), "bias": np.ones(5)}
    given["params"]["layer4_block0"] = {"conv1": {"kernel": np.ones((3, 3, 4, 4))}}
    _, sentence = initialize(model_config(init_from=str(backbone(given))), fresh)
    assert sentence.endswith("; 3 of its arrays do not belong to this network.")


def test_a_backbone_ported_from_pytorch(tmp_path, fresh):
    """The weights go through a file with a ResNet-18's names and `ranet port`'s directory."""
    config = default_config()
    config.model.update(context="none", backbone="resnet18", channels=8)
    wide = random_variables(config, seed=3)
    network = backbone_of(wide)
    checkpoints.export(tmp_path / "segmenter", config, training.DATASET, wide)
    reverse(tmp_path / "segmenter", tmp_path / "all.safetensors")
    tensors = read_state_dict(tmp_path / "all.safetensors")
    prefix = "backbone."
    tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    ported = port_state_dict(tensors, "resnet18")
    write_ported(tmp_path / "ported", ported, tmp_path / "all.safetensors", None)
    config.model.init_from = str(tmp_path / "ported")
    start = random_variables(config, seed=4)
    variables, sentence = initialize(config.model, start)
    assert_equal(backbone_of(variables), network)
    np.testing.assert_array_equal(
        variables["params"]["fine_logit"]["kernel"], start["params"]["fine_logit"]["kernel"]
    )
    assert sentence.startswith(f"100 arrays start from {tmp_path / 'ported'}, ")


# ----------------------------------------------------------------------------- what is refused


def test_missing_and_mismatching_arrays_are_all_listed(backbone, donor, fresh):
    given = backbone_of(donor)
    del given["params"]["layer1_block1"]["conv2"]
    given["batch_stats"]["bn1"]["mean"] = np.zeros(3, np.float32)
    directory = backbone(given)
    head, *lines = refusal(model_config(init_from=str(directory)), fresh).splitlines()
    assert head == (
        f"{directory} lacks 2 arrays of the network, or has them in another shape; set"
        " config.model.init_allow_missing to a regular expression that matches the paths of those"
        " that may start from random values."
    )
    assert sorted(lines) == [
        "  batch_stats/backbone/bn1/mean (4,): has shape (3,)",
        "  params/backbone/layer1_block1/conv2/kernel (3, 3, 4, 4): missing",
    ]


def test_a_model_of_other_classes_lacks_its_classifier(exported, donor):
    config = training.tiny_config()
    config.model.init_from = str(exported)
    start = random_variables(config, num_classes=3, seed=5)
    _, *lines = refusal(config.model, start).splitlines()
    assert sorted(lines) == [
        "  params/fine_logit/bias (3,): has shape (2,)",
        "  params/fine_logit/kernel (1, 1, 8, 3): has shape (1, 1, 8, 2)",
    ]
    config.model.init_allow_missing = "fine_logit"
    variables, sentence = initialize(config.model, start)
    assert_equal(variables["params"]["fine_logit"], start["params"]["fine_logit"])
    assert_equal(variables["params"]["context"], donor["params"]["context"])
    assert_equal(variables["batch_stats"], donor["batch_stats"])
    count = len(flatten(donor))
    assert sentence == (
        f"{count - 2} arrays start from {exported}, 2 from random values (fine_logit); 2 of its"
        " arrays do not belong to this network."
    )


def test_an_allowance_of_others_is_none(exported):
    config = training.tiny_config()
    config.model.update(init_from=str(exported), init_allow_missing="context|logit/kernel")
    start = random_variables(config, num_classes=3)
    _, *lines = refusal(config.model, start).splitlines()
    assert lines == ["  params/fine_logit/bias (3,): has shape (2,)"]


def test_what_is_no_regular_expression(exported):
    config = training.tiny_config()
    config.model.update(init_from=str(exported), init_allow_missing="fine_logit(")
    complaint = refusal(config.model, random_variables(config, num_classes=3))
    assert complaint.startswith(
        "config.model.init_allow_missing is 'fine_logit(', which is not a regular expression: "
    )


def test_a_directory_that_is_missing(tmp_path, fresh):
    path = str(tmp_path / "nowhere")
    complaint = refusal(model_config(init_from=path), fresh)
    assert complaint == (
        f"config.model.init_from is {path!r}, which is not a directory; name a directory that"
        " training, exporting or porting a network made, or set None to start from random weights."
    )


def test_directories_that_hold_no_weights(tmp_path, exported, fresh):
    (tmp_path / "empty").mkdir()
    complaint = refusal(model_config(init_from=str(tmp_path / "empty")), fresh)
    assert f"init_from is {str(tmp_path / 'empty')!r}, which holds no checkpoint;" in complaint
    for path in (exported / "variables").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    complaint = refusal(model_config(init_from=str(exported)), fresh)
    assert complaint.startswith(f"{exported / 'variables'}/")
    assert complaint.endswith(
        "has a different size than when it was written; restore it from a copy."
    )


# ------------------------------------------------------------------------------------- training


def still_config(steps, init_from):
    """A config that learns so slowly that the weights do not move."""
    config = training.tiny_config(steps)
    config.optimizer.learning_rate = 1e-30
    config.train.update(eval_every=100, checkpoint_every=1, log_every=1)
    config.model.init_from = str(init_from)
    return config


def run(config, workdir):
    return train(config, workdir, training.DATASET, training.train_batches, training.eval_batches)


def first_params(workdir):
    return read_state(workdir / "checkpoints" / "1")["params"]


@pytest.mark.long
def test_training_starts_from_these_weights_and_goes_on_without_them(
    tmp_path, exported, donor, capsys
):
    workdir = tmp_path / "run"
    run(still_config(1, exported), workdir)
    said = capsys.readouterr().out
    assert re.search(rf"arrays start from {exported}, 0 from random values; 0 of its arrays", said)
    assert_equal(first_params(workdir), donor["params"])

    shutil.rmtree(exported)
    result = run(still_config(1, exported), workdir)
    assert result.fine.miou >= 0
    assert "start from" not in capsys.readouterr().out
    assert_equal(first_params(workdir), donor["params"])
    assert_equal(load(workdir).variables["params"], donor["params"])


@pytest.mark.long
def test_training_that_was_cut_off_goes_on_without_the_directory(tmp_path, exported, donor):
    """The process ends after two of four steps."""

    class Killed(Exception):
        pass

    def stop_after(number):
        def check(batch):
            if batch > number:
                raise Killed

        return lambda first: training.train_batches(first, on_batch=check)

    config, workdir = still_config(4, exported), tmp_path / "run"
    with pytest.raises(Killed):
        train(config, workdir, training.DATASET, stop_after(3), training.eval_batches)
    assert checkpoints.has_checkpoint(workdir)
    shutil.rmtree(exported)
    run(config, workdir)
    _, _, variables, step = checkpoints.load_variables(workdir)
    assert step == 4
    assert_equal(variables["params"], donor["params"])


def test_training_does_not_start_where_the_directory_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"config\.model\.init_from is .*nowhere"):
        run(still_config(1, tmp_path / "nowhere"), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
