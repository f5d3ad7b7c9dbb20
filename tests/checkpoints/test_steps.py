"""Checkpoints of a training: damaged ones are named, and do not hide intact ones."""

import errno
import os
import shutil

import numpy as np
import pytest

from helpers import damage, training
from ranet_jax import checkpoints
from ranet_jax.checkpoints import steps
from ranet_jax.checkpoints.manifests import MANIFEST
from ranet_jax.errors import UserError

pytestmark = pytest.mark.slow

SCORES = {2: 0.5, 4: 0.7, 6: 0.6, 8: None}


def state(step):
    rng = np.random.default_rng(step)
    return {
        "step": np.int32(step),
        "params": {"head": {"kernel": rng.normal(size=(20, 30)).astype(np.float32)}},
        "batch_stats": {"bn": {"mean": rng.normal(size=3).astype(np.float32)}},
        "ema_params": None,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A working directory with four checkpoints; the second is the best."""
    workdir = tmp_path_factory.mktemp("run")
    checkpoints.prepare_workdir(workdir, training.tiny_config(), training.DATASET)
    with checkpoints.open_manager(workdir, 4) as manager:
        for step, score in SCORES.items():
            checkpoints.save(manager, step, state(step), score)
    return workdir


@pytest.fixture
def workdir(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def step_of(workdir, step):
    return workdir / "checkpoints" / str(step)


def resume(workdir):
    """The step that training resumes from."""
    with checkpoints.open_manager(workdir, 4) as manager:
        return int(checkpoints.restore_latest(manager, state(0))["step"])


def told(capsys):
    """The messages on standard error, one line each."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("ranet: ")]


def assert_is_step(variables, step):
    expected = state(step)["params"]["head"]["kernel"]
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], expected)


def test_the_order_of_loading_and_of_resuming(workdir, capsys):
    assert steps.best_first(workdir / "checkpoints") == [4, 6, 2, 8]
    assert steps.newest_first(workdir / "checkpoints") == [8, 6, 4, 2]
    assert checkpoints.load_variables(workdir).step == 4
    assert resume(workdir) == 8
    assert told(capsys) == []


def names_of(made):
    return [name for name in damage.files(step_of(made, 4)) if name != steps.SCORES]


@pytest.mark.parametrize("kind", damage.KINDS)
def test_one_damaged_file_hides_no_other_checkpoint(made, workdir, capsys, kind):
    for name in names_of(made):
        if name == MANIFEST and kind is damage.remove:
            continue
        for step, load, other in (
            (4, lambda: checkpoints.load_variables(workdir).step, 6),
            (8, lambda: resume(workdir), 6),
            (2, lambda: resume(workdir), 8),
            (8, lambda: checkpoints.load_variables(workdir).step, 4),
        ):
            if other != 6 and kind is not damage.empty:
                continue  # one kind of damage is enough for checkpoints that are not looked at
            # Array files have random names, which differ from step to step.
            path = step_of(workdir, step) / name
            if not path.is_file():
                continue
            kind(path)
            assert load() == other, (name, step)
            sentences = told(capsys)
            assert len(sentences) == (other == 6), sentences
            if sentences:
                assert f"{step_of(workdir, step)} is damaged ({name} " in sentences[0]
                assert sentences[0].endswith("the one of step 6 is used instead.")
            damage.restore(workdir, made)


@pytest.mark.parametrize("kind", damage.KINDS)
def test_what_older_versions_wrote_is_read_and_its_damage_named(made, workdir, capsys, kind):
    """Without checksums only Orbax finds damage; the loaded arrays are still those of one step."""
    for step in SCORES:
        (step_of(workdir, step) / MANIFEST).unlink()
    shutil.copytree(workdir, workdir.with_name("older"))
    assert checkpoints.load_variables(workdir).step == 4
    assert resume(workdir) == 8
    for name in ("state/_METADATA", "state/manifest.ocdbt"):
        kind(step_of(workdir, 4) / name)
        found = checkpoints.load_variables(workdir)
        if found.step != 4:
            assert found.step == 6
            assert f"{step_of(workdir, 4)} is damaged (state/" in told(capsys)[0]
        assert_is_step(found.variables, found.step)
        damage.restore(workdir, workdir.with_name("older"))


def test_every_flipped_bit_is_found_or_harmless(made, workdir, capsys):
    rng = np.random.default_rng(0)
    path = step_of(workdir, 4)
    expected, found = state(4), 0
    for file in damage.files(path).values():
        for position in rng.choice(8 * file.stat().st_size, size=25):
            damage.flip(file, position)
            try:
                read = steps.read_state(path)
                steps.read_score(path)
                np.testing.assert_equal(read, expected)
            except steps.DamagedError:
                found += 1
            damage.flip(file, position)
    assert found > 200
    assert checkpoints.load_variables(workdir).step == 4


def test_an_emptied_step_is_named(workdir, capsys):
    shutil.rmtree(step_of(workdir, 8))
    step_of(workdir, 8).mkdir()
    shutil.rmtree(step_of(workdir, 4))
    step_of(workdir, 4).write_text("a file")
    assert checkpoints.load_variables(workdir).step == 6
    assert resume(workdir) == 6
    sentences = told(capsys)
    assert len(sentences) == 3
    for step, sentence in zip((8, 4, 8), sentences, strict=True):
        assert f"{step_of(workdir, step)} is damaged (state/ is missing)" in sentence


def test_none_is_whole(workdir):
    for step in SCORES:
        damage.empty(step_of(workdir, step) / "state" / "_METADATA")
    before = sorted(damage.files(workdir))
    for load in (checkpoints.load_variables, resume):
        with pytest.raises(UserError, match=r"No checkpoint .* is intact: .*4 \(state/_METADATA"):
            load(workdir)
    assert sorted(damage.files(workdir)) == before


def test_a_damaged_step_that_is_named_is_refused(workdir):
    damage.empty(step_of(workdir, 6) / "state" / "_METADATA")
    with pytest.raises(UserError, match=f"{step_of(workdir, 6)} is damaged .state/_METADATA has"):
        checkpoints.load_variables(step_of(workdir, 6))
    assert checkpoints.load_variables(step_of(workdir, 8)).step == 8


BAD_SCORES = (b"", b"null", b"[]", b'{"miou": "0.9"}', b'{"miou": true}', b'{"miou": {}}', b"\xff")
BAD_SCORES += (
    b"[" * 100_000,
    b'{"miou": 1' + b"0" * 400 + b"}",
    b'{"loss": 0.9}',
    b'{"miou": 1e999}',
)


@pytest.mark.parametrize("has_manifest", [True, False])
@pytest.mark.parametrize("content", BAD_SCORES)
def test_a_damaged_score_does_not_count_and_loses_no_arrays(workdir, capsys, content, has_manifest):
    path = step_of(workdir, 4)
    (path / steps.SCORES).write_bytes(content)
    if not has_manifest:
        (path / MANIFEST).unlink()
    assert checkpoints.load_variables(workdir).step == 6
    sentences = told(capsys)
    assert len(sentences) == 1
    assert sentences[0].startswith(f"ranet: The score of checkpoint {path} ")
    assert checkpoints.load_variables(path).step == 4
    assert resume(workdir) == 8
    with checkpoints.open_manager(workdir, 1) as manager:
        checkpoints.save(manager, 9, state(9), 0.9)
    assert steps.finished_steps(workdir / "checkpoints") == [4, 9]  # it may have been the best


def test_a_score_that_is_no_number_is_never_the_best(workdir, capsys):
    with checkpoints.open_manager(workdir, 4) as manager:
        checkpoints.save(manager, 9, state(9), float("nan"))
    assert checkpoints.load_variables(workdir).step == 4
    assert told(capsys) == []
    with checkpoints.open_manager(workdir, 1) as manager:
        checkpoints.save(manager, 10, state(10))
    assert steps.finished_steps(workdir / "checkpoints") == [4, 10]


def test_a_damaged_step_is_set_aside_and_saved_anew(workdir):
    damage.empty(step_of(workdir, 8) / "state" / "_METADATA")
    with checkpoints.open_manager(workdir, 1) as manager:
        assert int(checkpoints.restore_latest(manager, state(0))["step"]) == 6
        checkpoints.save(manager, 7, state(7))
        checkpoints.save(manager, 8, state(8))
    assert steps.finished_steps(workdir / "checkpoints") == [4, 8]
    assert (step_of(workdir, 8).with_name("8.damaged") / "state").is_dir()
    assert_is_step(checkpoints.load_variables(step_of(workdir, 8)).variables, 8)


def test_other_names_are_no_steps(workdir):
    for name in ("07", "²", "9.damaged", "-1", "9" * 30, ".9.partial", "9.orbax-checkpoint-tmp"):
        (workdir / "checkpoints" / name).mkdir()
    assert steps.finished_steps(workdir / "checkpoints") == list(SCORES)
    assert resume(workdir) == 8


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("place", ["arrays", "checksums", "score"])
def test_what_cannot_be_saved_is_told_with_what_was_saved(workdir, monkeypatch, error, place):
    def fail(*arguments, **options):
        raise OSError(error, os.strerror(error), "somewhere")

    def fail_as_tensorstore_does(*arguments, **options):
        raise ValueError(f"INTERNAL: writing [OS error {error}: {os.strerror(error)}] key='x'")

    said = (
        rf"tep 9 cannot be (saved|written) to .*\({os.strerror(error)}\); the last"
        r" saved step is [89]; make room or repair the directory, then run the same command again"
    )
    with checkpoints.open_manager(workdir, 4) as manager:
        with monkeypatch.context() as patch:
            if place == "arrays":
                patch.setattr(steps.ocp.StandardCheckpointer, "save", fail_as_tensorstore_does)
            elif place == "checksums":
                patch.setattr(steps, "write_manifest", fail)
            else:
                patch.setattr(steps, "write_json", fail)
            with pytest.raises(UserError, match=said):
                checkpoints.save(manager, 9, state(9), 0.3)
                manager.wait_until_finished()
        if place != "score":
            assert steps.finished_steps(workdir / "checkpoints")[-1] == 8
        assert not list((workdir / "checkpoints").glob(".*"))
        checkpoints.save(manager, 9, state(9), 0.3)
    assert_is_step(checkpoints.load_variables(step_of(workdir, 9)).variables, 9)


@pytest.mark.parametrize("anew", [True, False])
def test_nothing_is_saved_where_the_directory_was_removed(workdir, anew):
    with checkpoints.open_manager(workdir, 4) as manager:
        shutil.rmtree(workdir)
        if anew:
            (workdir / "checkpoints").mkdir(parents=True)
        with pytest.raises(UserError, match=r"Step 9 cannot be saved to .*; no step is saved"):
            checkpoints.save(manager, 9, state(9))
            manager.wait_until_finished()
    assert damage.files(workdir.parent) == {}
