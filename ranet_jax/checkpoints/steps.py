"""The checkpoints of a training: `checkpoints/STEP/`, one directory per step.

Each holds `state/` (arrays, written by Orbax), `manifest.json` (checksums) and, once the step is
evaluated, `metrics/metrics` (its mean IoU). A step is written under a hidden name and renamed when
it is complete, so that an interrupted one is never picked up. Every step is read by itself, so that
a damaged step does not hide the others.
"""

import concurrent.futures
import contextlib
import errno
import functools
import math
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.serialization
import jax
import orbax.checkpoint as ocp
from tqdm import tqdm

from ranet_jax.checkpoints.manifests import add_to_manifest, find_damage, write_manifest
from ranet_jax.errors import UserError
from ranet_jax.files import numbered_names, paths, read_json, reason, write_json

SCORES = "metrics/metrics"
# Names under which a killed training leaves a step that it was writing or removing.
LEFTOVER = re.compile(r"\.\d+(\.removed)?\.partial|\d+\.orbax-checkpoint-tmp.*")


class DamagedError(Exception):
    """Arrays or a score cannot be read back as they were written; the message says why."""


def finished_steps(directory: paths.Path) -> list[int]:
    """Steps that have a checkpoint, in order; whether one is intact is checked when it is read."""
    return numbered_names(directory)


def read_state(path: paths.Path) -> dict[str, Any]:
    """State dictionary of one checkpoint, with NumPy arrays.

    Raises:
      DamagedError: the checkpoint is incomplete, or not as it was written.
      OSError: the store that holds it cannot be read.
    """
    with paths.local_copy(path) as copy:
        damage = {name: what for name, what in find_damage(copy).items() if name != SCORES}
        if damage:
            name, what = next(iter(damage.items()))
            raise DamagedError(f"{name} {what}")
        state = read_arrays(copy / "state")
    if not isinstance(state, dict) or not {"params", "batch_stats"} <= state.keys():
        raise DamagedError("state/ is not the state of a training")
    return state


def read_arrays(path: pathlib.Path) -> Any:
    """NumPy arrays that Orbax wrote.

    Raises:
      DamagedError: they cannot be read.
    """
    if not os.path.isdir(path):
        raise DamagedError(f"{path.name}/ is missing")
    _ignore_closed_event_loops()
    try:
        with checkpointer_of_this_host() as checkpointer:
            return checkpointer.restore(path.absolute())
    except Exception as error:  # on a damaged file, Orbax and TensorStore may raise anything
        raise DamagedError(f"{path.name}/ cannot be read: {reason(error)}") from error


def checkpointer_of_this_host() -> ocp.StandardCheckpointer:
    """Checkpointer of Orbax that waits for no other host, for hosts that may not share a disk."""
    process = jax.process_index()
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=process,
            active_processes={process},
            barrier_sync_key_prefix=f"host_{process}",
        )
    )


@functools.cache
def _ignore_closed_event_loops() -> None:
    """Silence the errors about a closed event loop that TensorStore prints after a failed read."""
    report = sys.unraisablehook

    def report_others(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            report(unraisable)

    sys.unraisablehook = report_others


def read_score(path: paths.Path) -> float | None:
    """Mean IoU of one checkpoint; None if it was not evaluated, or there was no label to score.

    Raises:
      DamagedError: the score cannot be read.
    """
    if damage := find_damage(path, below=SCORES).get(SCORES):
        raise DamagedError(damage)
    if not paths.exists(path / SCORES):
        return None
    try:
        fields = read_json(path / SCORES)
    except UserError as error:
        raise DamagedError("cannot be read") from error
    score = fields.get("miou") if isinstance(fields, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise DamagedError("holds no mean IoU")
    return float(score) if math.isfinite(score) else None


def read_scores(directory: paths.Path) -> tuple[dict[int, float | None], dict[int, str]]:
    """Scores of all steps as `read_score` gives them, and what is wrong with unreadable scores.

    The score of a step is None if it cannot be read.
    """
    scores: dict[int, float | None] = {}
    wrong = {}
    for step in finished_steps(directory):
        try:
            scores[step] = read_score(directory / str(step))
        except DamagedError as error:
            scores[step], wrong[step] = None, str(error)
    return scores, wrong


def tell(sentence: str) -> None:
    """Report a problem on standard error, once for all hosts."""
    if jax.process_index() == 0:
        tqdm.write(f"ranet: {sentence}", file=sys.stderr)


def newest_first(directory: paths.Path) -> list[int]:
    """Steps in the order in which resuming tries them."""
    return finished_steps(directory)[::-1]


def best_first(directory: paths.Path) -> list[int]:
    """Steps in the order in which loading tries them: by score, then those without one.

    A step without any arrays comes first: it may have been the best, and the attempt to read it
    reports that it is damaged.
    """

    def key(step: int) -> tuple[bool, bool, float, int]:
        score = scores[step]
        empty = not paths.is_dir(directory / str(step) / "state")
        return empty, score is not None, score or 0.0, step

    scores, _ = read_scores(directory)
    return sorted(scores, key=key, reverse=True)


def best_step(scores: Mapping[int, float | None]) -> int | None:
    """Step with the highest score, the later one if scores are equal; None if no step has one."""
    scored = {step: (score, step) for step, score in scores.items() if score is not None}
    return max(scored, key=scored.__getitem__, default=None)


class Found(NamedTuple):
    """An intact checkpoint, and the damaged steps that would have been used before it."""

    step: int
    state: dict[str, Any]
    damaged: list[int]


def find_whole(directory: paths.Path, order: Callable[[paths.Path], Sequence[int]]) -> Found | None:
    """The first intact checkpoint in an order; None if there is no checkpoint at all.

    Damaged checkpoints are named on standard error.

    Raises:
      UserError: all checkpoints are damaged.
    """
    damaged: dict[int, str] = {}
    # A running training may remove a step while it is read, so the steps are listed again.
    while left := [step for step in order(directory) if step not in damaged]:
        path = directory / str(left[0])
        try:
            state = read_state(path)
        except DamagedError as error:
            if paths.exists(path):
                damaged[left[0]] = str(error)
            continue
        for step, why in damaged.items():
            tell(
                f"Checkpoint {directory / str(step)} is damaged ({why}); the one of step {left[0]}"
                " is used instead."
            )
        return Found(left[0], state, list(damaged))
    if damaged:
        each = ", ".join(f"{step} ({why})" for step, why in damaged.items())
        raise UserError(
            f"No checkpoint in {directory} is intact: {each}; restore one from a copy, or train"
            " again in another directory."
        )
    return None


class Manager:
    """Writes checkpoints while training goes on; keeps the latest `keep` and the best by score.

    It removes what an interrupted save left behind. Only the first host writes.

    Args:
      directory: `WORKDIR/checkpoints`.
      keep: how many of the latest checkpoints are kept.
      publish: called in the background when a step is written, to send it to the store if the
        directory is a local copy; its errors count as errors of the save.
    """

    def __init__(
        self, directory: pathlib.Path, keep: int, publish: Callable[[], None] = lambda: None
    ):
        self.directory, self._keep, self._publish = directory, keep, publish
        self._opened: int | None = None
        self._first_host = jax.process_index() == 0
        self._saving: tuple[int, concurrent.futures.Future[None]] | None = None
        self._checkpointer = checkpointer_of_this_host()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        if not self._first_host:
            return
        try:
            directory.mkdir(exist_ok=True)
            # It stays open until the end, so that no other directory gets its inode number.
            self._opened = os.open(directory, os.O_RDONLY)
        except OSError as error:
            raise UserError(
                f"{directory} cannot be made ({reason(error)}); choose another working directory."
            ) from error
        for path in directory.iterdir():
            if LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Wait for the save under way; its error is dropped if another one ended training."""
        try:
            with contextlib.suppress(UserError) if kind else contextlib.nullcontext():
                self.wait_until_finished()
        finally:
            self._thread.shutdown(wait=False)
            with contextlib.suppress(Exception):  # such an error has been reported already
                self._checkpointer.close()
            if self._opened is not None:
                os.close(self._opened)

    def save(self, step: int, state: Any) -> None:
        """Start writing a training state as the checkpoint of a step.

        The state is copied to the host before this returns. Orbax gets that copy, since it refuses
        the arrays that pmap leaves on one process.

        Raises:
          UserError: this checkpoint or the one before it cannot be written.
        """
        self.wait_until_finished()
        if not self._first_host:
            return
        fields = flax.serialization.to_state_dict(jax.device_get(state))
        partial = self.directory / f".{step}.partial"
        try:
            self._check_present()
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            self._checkpointer.save(partial / "state", fields)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise self._not_saved(step, error) from error
        self._saving = (step, self._thread.submit(self._finish, step, partial))

    def _finish(self, step: int, partial: pathlib.Path) -> None:
        try:
            self._checkpointer.wait_until_finished()
            write_manifest(partial)
            self._check_present()
            target = self.directory / str(step)
            if target.exists():
                self._remove(step)
            os.replace(partial, target)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._prune()
        self._publish()

    def wait_until_finished(self) -> None:
        """Wait for the save under way.

        Raises:
          UserError: the checkpoint cannot be written.
        """
        if self._saving is None:
            return
        (step, future), self._saving = self._saving, None
        try:
            future.result()
        except UserError:
            raise
        except Exception as error:
            raise self._not_saved(step, error) from error

    def what_to_do(self) -> str:
        """Which step was saved last and how to go on, for errors about failed writes."""
        steps = finished_steps(self.directory)
        saved = f"the last saved step is {steps[-1]}" if steps else "no step is saved"
        return f"{saved}; make room or repair the directory, then run the same command again"

    def record_score(self, step: int, score: float) -> None:
        """Store the mean IoU of a saved step; the best step is kept.

        Raises:
          UserError: the score cannot be written.
        """
        self.wait_until_finished()
        path = self.directory / str(step)
        if not self._first_host:
            return
        try:
            self._check_present()
            (path / SCORES).parent.mkdir(exist_ok=True)
            write_json(path / SCORES, {"miou": score})
            add_to_manifest(path, SCORES)
            self._prune()
        except (OSError, UserError) as error:  # writing failed, or the manifest is damaged
            raise UserError(
                f"The score of step {step} cannot be written to {path} ({reason(error)});"
                f" {self.what_to_do()}."
            ) from error

    def set_aside(self, steps: Sequence[int]) -> None:
        """Rename damaged checkpoints to `STEP.damaged`, so that their steps can be saved again."""
        if not self._first_host:
            return
        for step in steps:
            path = self.directory / str(step)
            aside = path.with_name(f"{step}.damaged")
            if aside.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
            try:
                os.replace(path, aside)
            except OSError as error:
                raise UserError(
                    f"The damaged checkpoint {path} cannot be renamed ({reason(error)}); move it"
                    " away, then run the same command again."
                ) from error

    def _prune(self) -> None:
        """Remove all checkpoints but the latest, the best, and those with an unreadable score."""
        scores, wrong = read_scores(self.directory)
        steps = list(scores)
        kept = {*steps[-self._keep :], *wrong, best_step(scores)}
        for step in steps:
            if step not in kept:
                with contextlib.suppress(OSError):  # the next save tries again
                    self._remove(step)

    def _remove(self, step: int) -> None:
        """Remove a checkpoint. It is renamed first, so that no reader sees a partly removed one."""
        hidden = self.directory / f".{step}.removed.partial"
        shutil.rmtree(hidden, ignore_errors=True)
        os.replace(self.directory / str(step), hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _check_present(self) -> None:
        if self._opened is None or not os.path.samestat(
            os.fstat(self._opened), self.directory.stat()
        ):
            raise FileNotFoundError(
                errno.ENOENT, "it was removed and made again after training began"
            )

    def _not_saved(self, step: int, error: Exception) -> UserError:
        try:
            self._check_present()
        except OSError as gone:  # the cause of Orbax's error, which words it differently
            error = gone
        return UserError(
            f"Step {step} cannot be saved to {self.directory} ({reason(error)});"
            f" {self.what_to_do()}."
        )
