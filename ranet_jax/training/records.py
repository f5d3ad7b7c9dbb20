"""What training records of its steps and evaluations."""

import json
import math
import os
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
import tensorboardX
from tqdm import tqdm

from ranet_jax.errors import UserError
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.files import write_text

FILE = "metrics.jsonl"
# Values by name, one of them the "step".
Record = dict[str, int | float]


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite."""


def read_records(path: str | os.PathLike) -> list[Record]:
    """The finished lines of `metrics.jsonl`: one that was cut off, or is being written, has no end.

    Raises:
      UserError: the file is missing or holds other lines than records.
    """
    try:
        lines = pathlib.Path(path).read_text().splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        wrong = [
            record for record in records if not isinstance(record, dict) or "step" not in record
        ]
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; name the metrics.jsonl of a run.") from error
    except ValueError as error:
        raise UserError(
            f"{path} holds a line that is not JSON ({error}); mend it, or move the file away."
        ) from error
    if wrong:
        raise UserError(
            f"{path} holds a line that is no record of training ({wrong[0]!r}); mend it, or move"
            " the file away."
        )
    return records


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


class MetricsLog:
    """`metrics.jsonl` (a line a step, a line an evaluation), TensorBoard and the progress bar.

    Lines after the step to resume from are dropped, so that a resumed run leaves the same record
    as one that was never cut off. Only the first host writes.
    """

    def __init__(self, workdir: str | pathlib.Path, first: int, steps: int):
        self._first_host = jax.process_index() == 0
        self._bar = tqdm(
            total=steps, initial=first, unit="step", desc="train", disable=not self._first_host
        )
        self._time, self._step = time.monotonic(), first
        if not self._first_host:
            return
        path = pathlib.Path(workdir) / FILE
        records = read_records(path) if path.exists() else []
        kept = [_line(record) for record in records if record["step"] <= first]
        write_text(path, "".join(kept))
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(pathlib.Path(workdir) / "tensorboard"), purge_step=first + 1
        )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self._first_host:
            self._file.close()
            self._board.close()

    def steps(
        self, step: int, metrics: list[dict[str, np.ndarray]], schedule: Any, batch_size: int
    ) -> None:
        """Record the steps up to and with `step`.

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
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(f"loss {loss:.3f}, {speed:.1f} images/s")
        if not self._first_host:
            return
        for number, values in enumerate(metrics, start):
            record = {name: float(value) for name, value in values.items()}
            record["learning_rate"] = float(schedule(number - 1))
            self._write({"step": number, **record})
            for name, value in record.items():
                self._board.add_scalar(f"train/{name}", value, number)
        self._board.add_scalar("train/images_per_second", speed, step)
        self._file.flush()

    def evaluation(self, step: int, result: EvaluationResult) -> None:
        """Record the scores of an evaluation; tell of regions that are of no use."""
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
            self._file.flush()
            self._bar.write(f"step {step}: {shown}")
            if warning is not None:
                self._bar.write(f"ranet: {warning}", file=sys.stderr)
        self._time = time.monotonic()

    def _write(self, record: Record) -> None:
        self._file.write(_line(record))
