"""The records that training keeps of its steps and evaluations."""

import contextlib
import json
import math
import os
import pathlib
import sys
import textwrap
import time
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from ranet_jax.display.output import tell
from ranet_jax.display.progress import track
from ranet_jax.errors import UserError
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.files import parse_json, reason, write_text
from ranet_jax.files.paths import as_path, read_bytes

FILE = "metrics.jsonl"
# Values by name; one of them is the "step".
Record = dict[str, int | float]


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite."""


def read_records(path: str | os.PathLike) -> list[Record]:
    """The complete lines of `metrics.jsonl`.

    A last line that does not end in a line feed was cut off or is being written; it is left out.

    Raises:
      UserError: the file is missing or holds lines that are not records.
    """
    try:
        *lines, _ = read_bytes(as_path(path)).split(b"\n")
        records = [parse_json(line) for line in lines]
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; name the metrics.jsonl of a run.") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}); fix it, or move the file away."
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path} holds a line that is not JSON ({error}); fix it, or move the file away."
        ) from error
    wrong = [record for record in records if not _is_record(record)]
    if wrong:
        raise UserError(
            f"{path} holds a line that training did not write"
            f" ({textwrap.shorten(repr(wrong[0]), 200)}); fix it, or move the file away."
        )
    return records


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return False
    return all(type(value) in (int, float) for value in record.values())


def check_records(workdir: str | os.PathLike) -> None:
    """Raise `UserError` if a working directory has records that cannot be read."""
    path = pathlib.Path(workdir) / FILE
    if os.path.lexists(path):
        read_records(path)


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


class Board:
    """TensorBoard's event file, written synchronously, so that errors show at once.

    TensorBoard ignores what earlier files hold for step `first` and the steps after it.
    """

    def __init__(self, directory: pathlib.Path, first: int):
        directory.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"), f".{first}")
        self._write(first, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a value of a step."""
        self._write(step, summary=summary.scalar(name, value))

    def add_image(self, name: str, image: UInt8[np.ndarray, "H W 3"], step: int) -> None:
        """Write an image of a step."""
        self._write(step, summary=summary.image(name, image, dataformats="HWC"))

    def _write(self, step: int, **what: Any) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **what))

    def flush(self) -> None:
        """Flush to the disk what was written so far."""
        self._writer.flush()

    def close(self) -> None:
        """Flush, and close the file."""
        self._writer.close()


class MetricsLog:
    """`metrics.jsonl` (one line per step, one per evaluation), TensorBoard and the progress bar.

    Lines after the step to resume from are dropped, so that a resumed run leaves the same record
    as one that was never interrupted. Only the first host writes.
    """

    def __init__(self, workdir: str | pathlib.Path, first: int, steps: int):
        self._first_host = jax.process_index() == 0
        self._bar = track(
            total=steps, initial=first, unit="step", desc="train", hidden=not self._first_host
        )
        self._time, self._step = time.monotonic(), first
        path = pathlib.Path(workdir) / FILE
        records = read_records(path) if path.exists() else []
        self._mious = {
            record["step"]: record["fine_miou"] for record in records if "fine_miou" in record
        }
        if not self._first_host:
            return
        kept = [_line(record) for record in records if record["step"] <= first]
        write_text(path, "".join(kept))
        self._file = path.open("a")
        self._board = Board(pathlib.Path(workdir) / "tensorboard", first + 1)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self._first_host:
            for file in (self._file, self._board):
                with contextlib.suppress(OSError):  # all that was recorded is flushed already
                    file.close()

    def has_evaluation(self, step: int) -> bool:
        """Whether an evaluation of a step is on record."""
        return step in self._mious

    def evaluations_since_best(self, step: int) -> int:
        """Number of evaluations, up to a step, since the first one with the best mean IoU.

        0 if there are no evaluations. A score that is NaN is never the best.
        """
        mious = [miou for at, miou in sorted(self._mious.items()) if at <= step]
        ranked = [-math.inf if math.isnan(miou) else miou for miou in mious]
        return len(ranked) - 1 - ranked.index(max(ranked)) if ranked else 0

    def steps(
        self,
        step: int,
        metrics: list[dict[str, np.ndarray]],
        schedule: Any,
        batch_size: int,
        note: str | None = None,
    ) -> None:
        """Record the steps up to and including `step`; show a note beside their speed.

        Raises:
          NonFiniteLossError: one of their losses or gradients is not finite.
        """
        now = time.monotonic()
        speed = batch_size * (step - self._step) / max(now - self._time, 1e-9)
        self._time, self._step = now, step
        start = step - len(metrics) + 1
        for number, values in enumerate(metrics, start):
            wrong = [name for name, value in values.items() if not np.isfinite(value)]
            if wrong:
                raise NonFiniteLossError(
                    f"Not finite at step {number} (of steps {start} to {step}):"
                    f" {', '.join(wrong)}; lower config.optimizer.learning_rate, set"
                    " config.optimizer.clip_norm, or look at the data of that step."
                )
        loss = np.mean([values["loss"] for values in metrics])
        shown = f"loss {loss:.3f}, {speed:.1f} images/s"
        self._bar.set_postfix_str(shown if note is None else f"{shown}, {note}")
        self._bar.update(len(metrics))
        if not self._first_host:
            return
        for number, values in enumerate(metrics, start):
            record = {name: float(value) for name, value in values.items()}
            record["learning_rate"] = float(schedule(number - 1))
            self._write({"step": number, **record})
            for name, value in record.items():
                self._board.add_scalar(f"train/{name}", value, number)
        self._board.add_scalar("train/images_per_second", speed, step)
        self._flush()

    def evaluation(
        self, step: int, result: EvaluationResult, samples: Image.Image | None = None
    ) -> None:
        """Record the scores and samples of an evaluation; warn about regions that are of no use.

        The time since the last call of `steps` counts as evaluation, not as training.
        """
        self._mious[step] = result.fine.miou
        record = {"fine_miou": result.fine.miou, "fine_accuracy": result.fine.pixel_accuracy}
        if result.coarse is not None:
            record["coarse_miou"] = result.coarse.miou
        shown = ", ".join(f"{name} {value:.4f}" for name, value in record.items())
        warning = None
        if result.regions is not None:
            shown, warning = f"{shown}, {result.regions.summary()}", result.regions.warning()
            values = result.regions.values()
            record |= {name: value for name, value in values.items() if math.isfinite(value)}
        if self._first_host:
            self._write({"step": step, **record})
            for name, value in record.items():
                self._board.add_scalar(f"eval/{name}", value, step)
            if samples is not None:
                self._board.add_image("eval/samples", np.asarray(samples), step)
            self._flush()
            tell(f"step {step}: {shown}")
            if warning is not None:
                tqdm.write(f"ranet: {warning}", file=sys.stderr)
        now = time.monotonic()
        self._bar.leave_out(now - self._time)
        self._time = now

    def _write(self, record: Record) -> None:
        self._file.write(_line(record))

    def _flush(self) -> None:
        self._file.flush()
        self._board.flush()
