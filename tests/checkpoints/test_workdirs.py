"""Ownership of directories: training writes only to its own and to new ones."""

import json
import shutil

import pytest

from helpers import damage, training
from ranet_jax import checkpoints
from ranet_jax.checkpoints.workdirs import describe
from ranet_jax.errors import UserError

pytestmark = pytest.mark.slow


def contents(directory):
    return {name: path.read_bytes() for name, path in damage.files(directory).items()}


def prepare(directory):
    checkpoints.prepare_workdir(directory, training.tiny_config(), training.DATASET)


def exported(directory):
    variables = {"params": {"w": training.batch(0)["image"]}}
    checkpoints.export(directory, training.tiny_config(), training.DATASET, variables)


def ported_backbone(directory):
    checkpoints.write_variables(directory / "variables", {"params": {}, "batch_stats": {}})
    (directory / "port.json").write_text("{}")


def half_ported(directory):
    directory.mkdir()
    (directory / "port.json").write_text("{}")


def export_without_description(directory):
    exported(directory)
    (directory / "config.json").unlink()


def trained_in_by_mistake(directory):
    exported(directory)
    (directory / "checkpoints" / "3").mkdir(parents=True)


def other_files(directory):
    directory.mkdir()
    (directory / "thesis.tex").write_text("years of work")


def other_directory(directory):
    (directory / "photos").mkdir(parents=True)


def config_of(value):
    def make(directory):
        directory.mkdir()
        (directory / "config.json").write_text(value)

    return make


def data_set_of(value):
    def make(directory):
        prepare(directory)
        (directory / "dataset.json").write_text(value)

    return make


def file_for_checkpoints(directory):
    prepare(directory)
    (directory / "checkpoints").write_text("not a directory")


def directory_for_records(directory):
    prepare(directory)
    (directory / "metrics.jsonl").mkdir()


JSON = (
    "",
    "null",
    "[]",
    "{}",
    "3",
    '"model"',
    "[" * 100_000,
    '{"model": 1',
    '{"hidden_size": 768}',
)
JSON += ('{"model": null, "data": {}, "train": {}}', '{"a": 1' + "0" * 400 + "}")
FOREIGN = (
    *(exported, ported_backbone, half_ported, export_without_description, trained_in_by_mistake),
    *(other_files, other_directory, file_for_checkpoints, directory_for_records),
    *map(config_of, JSON),
    *map(data_set_of, JSON),
)


@pytest.mark.parametrize("make", FOREIGN)
def test_a_directory_of_something_else_is_refused_and_stays_as_it_is(tmp_path, make):
    directory = tmp_path / "foreign"
    make(directory)
    before = contents(directory)
    with pytest.raises(UserError, match=f"{directory}.*another working directory") as refused:
        prepare(directory)
    assert "\n" not in str(refused.value)
    assert contents(directory) == before


def nothing(directory):
    pass


def empty(directory):
    directory.mkdir()


def new_volume(directory):
    (directory / "lost+found").mkdir(parents=True)
    (directory / ".gitkeep").touch()


def begun(directory):
    prepare(directory)


def killed_at_once(directory):
    directory.mkdir()
    describe(directory, training.tiny_config(), training.DATASET)
    (directory / "dataset.json").unlink()


def with_notes(directory):
    prepare(directory)
    (directory / "notes.txt").write_text("kept")


@pytest.mark.parametrize("make", [nothing, empty, new_volume, begun, killed_at_once, with_notes])
def test_new_directories_and_those_of_a_training_are_taken(tmp_path, make):
    directory = tmp_path / "run"
    make(directory)
    before = contents(directory) if directory.exists() else {}
    prepare(directory)
    after = contents(directory)
    assert json.loads(after["config.json"])["data"]["name"] == "toy"
    assert before.items() <= after.items()


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "b"])
def test_a_name_that_is_too_long_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"cannot be made .*File name too long"):
        prepare(tmp_path / name)
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.load_variables(tmp_path / name)
    with pytest.raises(UserError, match=r"cannot be written .*File name too long"):
        exported(tmp_path / name)


def test_a_long_name_that_the_file_system_takes_is_written(tmp_path):
    exported(tmp_path / ("ä" * 127))
    assert checkpoints.load_variables(tmp_path / ("ä" * 127)).step is None


def test_a_directory_of_two_models_is_not_guessed_at(tmp_path):
    trained_in_by_mistake(tmp_path / "both")
    with pytest.raises(UserError, match=r"both holds both an exported network .* move one"):
        checkpoints.load_variables(tmp_path / "both")
    shutil.rmtree(tmp_path / "both" / "checkpoints")
    assert checkpoints.load_variables(tmp_path / "both").step is None


@pytest.mark.parametrize("kind", damage.KINDS)
def test_damage_of_an_export_is_named(tmp_path, capsys, kind):
    exported(tmp_path / "made")
    shutil.copytree(tmp_path / "made", tmp_path / "copy")
    for name in damage.files(tmp_path / "made"):
        if name == "manifest.json" and kind is damage.remove:
            continue
        kind(tmp_path / "made" / name)
        with pytest.raises(UserError, match=name.replace("variables/", "")):
            checkpoints.load_variables(tmp_path / "made")
        damage.restore(tmp_path / "made", tmp_path / "copy")


def test_an_edited_description_of_an_export_is_told_and_used(tmp_path, capsys):
    exported(tmp_path / "made")
    path = tmp_path / "made" / "config.json"
    fields = json.loads(path.read_text())
    fields["eval"]["flip"] = True
    path.write_text(json.dumps(fields))
    assert checkpoints.load_variables(tmp_path / "made").config.eval.flip
    assert capsys.readouterr().err.startswith(f"ranet: {path} has a different size than")


def numbers(fields, path=()):
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from numbers(value, (*path, key))
        elif isinstance(value, int | float):
            yield (*path, key)


@pytest.mark.parametrize("value", [10**400, -(10**400), [], {}, "x", None, [[10**30]]])
def test_every_number_of_a_config_may_be_replaced(tmp_path, value):
    """With 400-digit numbers or other types, the config loads or one sentence says why not."""
    exported(tmp_path / "made")
    path = tmp_path / "made" / "config.json"
    original = path.read_text()
    for names in numbers(json.loads(original)):
        fields = json.loads(original)
        section = fields
        for name in names[:-1]:
            section = section[name]
        section[names[-1]] = value
        path.write_text(json.dumps(fields))
        try:
            checkpoints.load_variables(tmp_path / "made")
        except UserError as error:
            assert str(path.parent) in str(error)
            assert "\n" not in str(error)
        else:
            assert value is None or value == {}
